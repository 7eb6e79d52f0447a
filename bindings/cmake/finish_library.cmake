# Run after cargo, at each build: puts what it built where programs link it, if it changed, with its links and .pc file.
#   cmake -D NAME= -D FROM=cargo's-folder -D TO=folder -D SONAME= -D VERSION= -D EXPECTED="-l..." -D PC_IN=template
#     -D LIBDIR=lib -D INCLUDEDIR=include -P finish_library.cmake
cmake_minimum_required(VERSION 3.20)

file(STRINGS "${FROM}/lib${NAME}.native-static-libs" native LIMIT_COUNT 1)
separate_arguments(needed UNIX_COMMAND "${native}")
separate_arguments(expected UNIX_COMMAND "${EXPECTED}")
# Targets had to name them before anything was built, as what Rust's own library needs.
foreach(library IN LISTS needed)
  if(NOT library IN_LIST expected)
    message(FATAL_ERROR "lib${NAME}.a needs ${library}, which programs are not told to link: ${EXPECTED}. "
                        "See sipws_native_libs in bindings/cmake/SipwsCargo.cmake.")
  endif()
endforeach()

file(MAKE_DIRECTORY "${TO}")
# Hard links, so that a library of 100 MB is not there twice; cargo replaces a file, it does not write into it.
function(place from to)
  file(REAL_PATH "${from}" from)
  if(EXISTS "${to}" AND NOT "${from}" IS_NEWER_THAN "${to}")
    return()
  endif()
  file(REMOVE "${to}")
  file(CREATE_LINK "${from}" "${to}" COPY_ON_ERROR)
endfunction()

place("${FROM}/lib${NAME}.a" "${TO}/lib${NAME}.a")
place("${FROM}/lib${NAME}.so" "${TO}/lib${NAME}.so.${VERSION}")
foreach(link IN ITEMS "${SONAME}" "lib${NAME}.so")
  file(CREATE_LINK "lib${NAME}.so.${VERSION}" "${TO}/${link}" SYMBOLIC)
endforeach()

# An installed tree may be moved: its .pc file finds the prefix from where it stands itself.
file(RELATIVE_PATH up "/prefix/${LIBDIR}/pkgconfig" "/prefix")
string(REGEX REPLACE "/$" "" UP "${up}")
set(NATIVE "${native}")
configure_file("${PC_IN}" "${TO}/pkgconfig/${NAME}.pc" @ONLY)
file(CONFIGURE OUTPUT "${TO}/cmake/${NAME}NativeLibs.cmake" @ONLY
  CONTENT "# What programs that link lib${NAME}.a have to link besides, as rustc says.\nset(SIPWS_NATIVE_LIBS \"@NATIVE@\")\n")
