# The targets, in the build tree as in an installed one. Comes in: SIPWS_INCLUDE_DIR, SIPWS_LIB_DIR, SIPWS_NATIVE_LIBS (as
# rustc names them), SIPWS_HAS_PJSIP (then the target sipws::pjproject is there).

function(sipws_targets_of library target)
  separate_arguments(native UNIX_COMMAND "${SIPWS_NATIVE_LIBS}")
  add_library(sipws::${target}_static STATIC IMPORTED GLOBAL)
  set_target_properties(sipws::${target}_static PROPERTIES
    IMPORTED_LOCATION "${SIPWS_LIB_DIR}/lib${library}.a"
    INTERFACE_INCLUDE_DIRECTORIES "${SIPWS_INCLUDE_DIR}"
    INTERFACE_LINK_LIBRARIES "${ARGN};${native}")
  add_library(sipws::${target}_shared SHARED IMPORTED GLOBAL)
  set_target_properties(sipws::${target}_shared PROPERTIES
    IMPORTED_LOCATION "${SIPWS_LIB_DIR}/lib${library}.so"
    INTERFACE_INCLUDE_DIRECTORIES "${SIPWS_INCLUDE_DIR}"
    INTERFACE_LINK_LIBRARIES "${ARGN}")
  if(BUILD_SHARED_LIBS)
    add_library(sipws::${target} ALIAS sipws::${target}_shared)
  else()
    add_library(sipws::${target} ALIAS sipws::${target}_static)
  endif()
endfunction()

sipws_targets_of(sipws sipws)
if(SIPWS_HAS_PJSIP)
  sipws_targets_of(sipws_pjsip pjsip sipws::pjproject)
endif()
