# What `cmake --install` puts where. Components: sipws_runtime (the shared libraries that programs load) and
# sipws_development (all else).
include(CMakePackageConfigHelpers)

set(sipws_cmake_dir "${CMAKE_INSTALL_LIBDIR}/cmake/sipws")
set(lib "${PROJECT_BINARY_DIR}/lib")

install(FILES include/sipws.h include/sipws.hpp
  DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" COMPONENT sipws_development)
if(SIPWS_BUILD_PJSIP)
  install(FILES include/sipws_pjsip.h DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" COMPONENT sipws_development)
endif()

foreach(library IN LISTS sipws_libraries)
  install(DIRECTORY "${lib}/" DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT sipws_runtime
    FILES_MATCHING REGEX "/lib${library}\\.so\\.[0-9.]+$"
    PATTERN cmake EXCLUDE PATTERN pkgconfig EXCLUDE)
  install(FILES "${lib}/lib${library}.a" "${lib}/lib${library}.so"
    DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT sipws_development)
  install(FILES "${lib}/pkgconfig/${library}.pc"
    DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig" COMPONENT sipws_development)
endforeach()

set(SIPWS_HAS_PJSIP ${SIPWS_BUILD_PJSIP})
configure_package_config_file(bindings/cmake/sipwsConfig.cmake.in "${lib}/cmake/sipwsConfig.cmake"
  INSTALL_DESTINATION "${sipws_cmake_dir}" PATH_VARS CMAKE_INSTALL_INCLUDEDIR CMAKE_INSTALL_LIBDIR)
# Below 1.0 a new minor version may break what the older promised.
write_basic_package_version_file("${lib}/cmake/sipwsConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${lib}/cmake/sipwsConfig.cmake" "${lib}/cmake/sipwsConfigVersion.cmake" "${lib}/cmake/sipwsNativeLibs.cmake"
  bindings/cmake/SipwsTargets.cmake bindings/cmake/SipwsPjproject.cmake
  DESTINATION "${sipws_cmake_dir}" COMPONENT sipws_development)
