# Libraries that cargo builds, as targets.
#
#   sipws_cargo_library(name PACKAGE cargo-package MANIFEST folder [LINK target...])
#
# makes the target <name>_cargo, which has cargo build lib<name>.a and lib<name>.so into <build>/lib, there with soname
# and links as they are installed. LINK: what a program needs besides.
#
#   sipws_define_targets()
#
# makes the targets of all of them: see SipwsTargets.cmake.

find_program(SIPWS_CARGO cargo HINTS "$ENV{CARGO_HOME}/bin" "$ENV{HOME}/.cargo/bin" REQUIRED)
find_program(SIPWS_RUSTC rustc HINTS "$ENV{CARGO_HOME}/bin" "$ENV{HOME}/.cargo/bin" REQUIRED)
mark_as_advanced(SIPWS_CARGO SIPWS_RUSTC)
set(SIPWS_CARGO_TARGET_DIR "${PROJECT_BINARY_DIR}/cargo" CACHE PATH "Cargo's target directory; another's may be shared")

if(CMAKE_BUILD_TYPE STREQUAL "Debug")
  set(sipws_cargo_profile dev)
  set(sipws_cargo_artifacts "${SIPWS_CARGO_TARGET_DIR}/debug")
else()
  set(sipws_cargo_profile c)
  set(sipws_cargo_artifacts "${SIPWS_CARGO_TARGET_DIR}/c")
endif()

# What Rust's own library needs of the system. The same question is put at each build for the real libraries: see
# finish_library.cmake.
set(probe "${PROJECT_BINARY_DIR}/sipws-native-libs")
file(WRITE "${probe}/empty.rs" "")
execute_process(
  COMMAND "${SIPWS_RUSTC}" --crate-type staticlib --crate-name empty --print native-static-libs=native --out-dir . empty.rs
  WORKING_DIRECTORY "${probe}" ERROR_VARIABLE problem OUTPUT_QUIET RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "sipws: rustc can't say which libraries a static library needs:\n${problem}")
endif()
file(STRINGS "${probe}/native" sipws_native_libs LIMIT_COUNT 1)

function(sipws_cargo_library name)
  cmake_parse_arguments(arg "" "PACKAGE;MANIFEST" "LINK" ${ARGN})
  # Where the number of the soname is set.
  set(build_rs "${PROJECT_SOURCE_DIR}/${arg_MANIFEST}/build.rs")
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${build_rs}" "${PROJECT_SOURCE_DIR}/Cargo.toml")
  file(STRINGS "${build_rs}" line REGEX "-soname,lib${name}\\.so\\." LIMIT_COUNT 1)
  string(REGEX MATCH "\\.so\\.([0-9]+)" soname "${line}")
  set(soname "lib${name}${soname}")

  set(lib "${PROJECT_BINARY_DIR}/lib")
  set(native "${sipws_cargo_artifacts}/lib${name}.native-static-libs")
  set(environment "")
  if(PJPROJECT_DIR)
    set(environment "PJPROJECT_DIR=${PJPROJECT_DIR}")
  endif()
  add_custom_target(${name}_cargo ALL
    COMMAND "${CMAKE_COMMAND}" -E env ${environment}
      "${SIPWS_CARGO}" rustc --locked --quiet -p ${arg_PACKAGE} --lib --profile ${sipws_cargo_profile}
      --target-dir "${SIPWS_CARGO_TARGET_DIR}" -- --print "native-static-libs=${native}"
    COMMAND "${CMAKE_COMMAND}" -D NAME=${name} -D "FROM=${sipws_cargo_artifacts}" -D "TO=${lib}" -D SONAME=${soname}
      -D VERSION=${PROJECT_VERSION} -D "EXPECTED=${sipws_native_libs}"
      -D "PC_IN=${PROJECT_SOURCE_DIR}/bindings/pkgconfig/${name}.pc.in"
      -D "LIBDIR=${CMAKE_INSTALL_LIBDIR}" -D "INCLUDEDIR=${CMAKE_INSTALL_INCLUDEDIR}"
      -P "${PROJECT_SOURCE_DIR}/bindings/cmake/finish_library.cmake"
    BYPRODUCTS "${lib}/lib${name}.a" "${lib}/lib${name}.so" "${lib}/${soname}" "${lib}/lib${name}.so.${PROJECT_VERSION}"
      "${lib}/pkgconfig/${name}.pc" "${lib}/cmake/${name}NativeLibs.cmake"
    WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}"
    COMMENT "cargo: lib${name}, profile ${sipws_cargo_profile}"
    USES_TERMINAL VERBATIM)
endfunction()

function(sipws_define_targets)
  set(SIPWS_INCLUDE_DIR "${PROJECT_SOURCE_DIR}/include")
  set(SIPWS_LIB_DIR "${PROJECT_BINARY_DIR}/lib")
  set(SIPWS_NATIVE_LIBS "${sipws_native_libs}")
  set(SIPWS_HAS_PJSIP ${SIPWS_BUILD_PJSIP})
  include(SipwsTargets)
  foreach(library IN LISTS sipws_libraries)
    string(REPLACE "sipws_pjsip" "pjsip" target "${library}")
    foreach(kind IN ITEMS static shared)
      add_dependencies(sipws::${target}_${kind} ${library}_cargo)
    endforeach()
  endforeach()
endfunction()
