# Finds the host's PJSIP: where bindings/pjsip-sys finds it too, in the same order.
#
#   sipws_find_pjproject([VENDOR install-tree])
#
# 1. PJPROJECT_DIR, variable of CMake or of the environment: a configured source tree or an install tree,
# 2. what pkg-config knows as libpjproject,
# 3. VENDOR.
#
# Sets sipws_pjproject_FOUND and either _VERSION, _ORIGIN and the target sipws::pjproject, or _REASON.

set(PJPROJECT_DIR "$ENV{PJPROJECT_DIR}" CACHE PATH "PJSIP: a configured source tree, or an install tree")

# The words of pkg-config, or of PJSIP's own makefile, as a target. Without pjsua2: who writes C++ against it links it.
function(sipws_pjproject_target flags)
  separate_arguments(flags UNIX_COMMAND "${flags}")
  list(FILTER flags EXCLUDE REGEX "^-lpjsua2")
  set(definitions ${flags})
  list(FILTER definitions INCLUDE REGEX "^-D")
  list(TRANSFORM definitions REPLACE "^-D" "")
  set(includes ${flags})
  list(FILTER includes INCLUDE REGEX "^-I")
  list(TRANSFORM includes REPLACE "^-I" "")
  set(directories ${flags})
  list(FILTER directories INCLUDE REGEX "^-L")
  list(TRANSFORM directories REPLACE "^-L" "")
  list(REMOVE_DUPLICATES directories)
  set(libraries ${flags})
  list(FILTER libraries INCLUDE REGEX "^-l")
  list(REVERSE libraries)
  list(REMOVE_DUPLICATES libraries) # each stays where it is named last, behind all that need it
  list(REVERSE libraries)
  # A corner of pjlib is C++, too; most programs have no use for it, and shall not load its library.
  if("-lstdc++" IN_LIST libraries)
    list(REMOVE_ITEM libraries -lstdc++)
    list(APPEND libraries "-Wl,--push-state,--as-needed,-lstdc++,--pop-state")
  endif()
  set(config_dir "")
  foreach(dir IN LISTS includes)
    if(EXISTS "${dir}/pj/config.h")
      set(config_dir "${dir}")
    endif()
  endforeach()
  if(NOT config_dir)
    set(sipws_pjproject_FOUND FALSE PARENT_SCOPE)
    return()
  endif()
  file(STRINGS "${config_dir}/pj/config.h" numbers REGEX "define +PJ_VERSION_NUM_(MAJOR|MINOR) ")
  string(REGEX REPLACE "[^;]*[ \t]([0-9]+)[^;]*" "\\1" numbers "${numbers}")
  list(JOIN numbers "." version)
  add_library(sipws::pjproject INTERFACE IMPORTED GLOBAL)
  set_target_properties(sipws::pjproject PROPERTIES
    INTERFACE_INCLUDE_DIRECTORIES "${includes}"
    INTERFACE_COMPILE_DEFINITIONS "${definitions}"
    INTERFACE_LINK_DIRECTORIES "${directories}"
    INTERFACE_LINK_LIBRARIES "${libraries}")
  set(sipws_pjproject_VERSION "${version}" PARENT_SCOPE)
  set(sipws_pjproject_FOUND TRUE PARENT_SCOPE)
endfunction()

# --static: also what PJSIP's libraries need themselves.
function(sipws_pkg_config_pjproject dir out)
  find_program(SIPWS_PKG_CONFIG NAMES $ENV{PKG_CONFIG} pkg-config pkgconf)
  mark_as_advanced(SIPWS_PKG_CONFIG)
  set(flags "")
  if(SIPWS_PKG_CONFIG)
    set(path "$ENV{PKG_CONFIG_PATH}")
    if(dir)
      set(path "${dir}")
    endif()
    execute_process(
      COMMAND "${CMAKE_COMMAND}" -E env "PKG_CONFIG_PATH=${path}" "${SIPWS_PKG_CONFIG}" --static --cflags --libs libpjproject
      OUTPUT_VARIABLE flags OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE result)
    if(NOT result EQUAL 0)
      set(flags "")
    endif()
  endif()
  set(${out} "${flags}" PARENT_SCOPE)
endfunction()

# A configured source tree tells by its own makefile what its programs are built with; an install tree has a .pc file.
function(sipws_pjproject_dir dir out)
  if(EXISTS "${dir}/build.mak")
    set(ask "${CMAKE_CURRENT_BINARY_DIR}/sipws-ask-pjproject.mak")
    file(WRITE "${ask}" "include build.mak\n$(info $(PJ_CFLAGS) $(PJ_LDFLAGS) $(PJ_LDLIBS))\nall: ;\n")
    execute_process(
      COMMAND make --no-print-directory -s -C "${dir}" -f "${ask}"
      OUTPUT_VARIABLE flags OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  else()
    file(GLOB pc "${dir}/lib*/pkgconfig/libpjproject.pc" "${dir}/lib/*/pkgconfig/libpjproject.pc")
    set(flags "")
    if(pc)
      list(GET pc 0 pc)
      get_filename_component(pc_dir "${pc}" DIRECTORY)
      sipws_pkg_config_pjproject("${pc_dir}" flags)
    endif()
  endif()
  set(${out} "${flags}" PARENT_SCOPE)
endfunction()

function(sipws_find_pjproject)
  cmake_parse_arguments(arg "" "VENDOR" "" ${ARGN})
  set(sipws_pjproject_FOUND FALSE)
  if(TARGET sipws::pjproject)
    set(sipws_pjproject_FOUND TRUE)
  elseif(PJPROJECT_DIR)
    set(origin "${PJPROJECT_DIR}")
    sipws_pjproject_dir("${PJPROJECT_DIR}" flags)
    sipws_pjproject_target("${flags}")
    set(reason "PJPROJECT_DIR=${PJPROJECT_DIR} is neither a configured source tree (build.mak) nor an install tree "
               "(lib/pkgconfig/libpjproject.pc)")
    string(CONCAT reason ${reason})
  else()
    set(origin "pkg-config")
    sipws_pkg_config_pjproject("" flags)
    sipws_pjproject_target("${flags}")
    if(NOT sipws_pjproject_FOUND AND arg_VENDOR)
      set(origin "${arg_VENDOR}")
      sipws_pjproject_dir("${arg_VENDOR}" flags)
      sipws_pjproject_target("${flags}")
    endif()
    set(reason "PJSIP was not found: not by PJPROJECT_DIR, which is not set, nor by pkg-config as libpjproject")
    if(arg_VENDOR)
      string(APPEND reason ", nor at ${arg_VENDOR}, where vendor/pjproject.sh puts it")
    endif()
  endif()
  set(sipws_pjproject_FOUND ${sipws_pjproject_FOUND} PARENT_SCOPE)
  set(sipws_pjproject_VERSION "${sipws_pjproject_VERSION}" PARENT_SCOPE)
  set(sipws_pjproject_ORIGIN "${origin}" PARENT_SCOPE)
  set(sipws_pjproject_REASON "${reason}" PARENT_SCOPE)
endfunction()
