# find_package(latentblend 0.1 [COMPONENTS shared | static]) gives
#
#   latentblend::shared        the shared library, where it is installed
#   latentblend::static        the static library with what it needs of the system, where it is installed
#   latentblend::latentblend   the shared one; the static one if there is no other, or if
#                              latentblend_USE_STATIC_LIBS is set
#
# It lies in PREFIX/share/latentblend/cmake, and finds the rest from there.

get_filename_component(_latentblend_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
set(_latentblend_include "${_latentblend_prefix}/include")

# The first of the names, in the order of the folders, or nothing.
function(_latentblend_locate result)
  foreach(folder "lib/${CMAKE_LIBRARY_ARCHITECTURE}" lib lib64)
    foreach(name ${ARGN})
      set(path "${_latentblend_prefix}/${folder}/${name}")
      if(NOT IS_DIRECTORY "${path}" AND EXISTS "${path}")
        set(${result} "${path}" PARENT_SCOPE)
        return()
      endif()
    endforeach()
  endforeach()
  set(${result} "" PARENT_SCOPE)
endfunction()

if(WIN32)
  _latentblend_locate(_latentblend_import latentblend.dll.lib liblatentblend.dll.a)
  _latentblend_locate(_latentblend_static latentblend.lib liblatentblend.a)
  set(_latentblend_shared "${_latentblend_prefix}/bin/latentblend.dll")
  if(NOT EXISTS "${_latentblend_shared}" OR NOT _latentblend_import)
    set(_latentblend_shared "")
  endif()
  set(_latentblend_system kernel32 ntdll userenv ws2_32 dbghelp)
elseif(APPLE)
  _latentblend_locate(_latentblend_shared liblatentblend.dylib)
  _latentblend_locate(_latentblend_static liblatentblend.a)
  set(_latentblend_system c m)
else()
  _latentblend_locate(_latentblend_shared liblatentblend.so)
  _latentblend_locate(_latentblend_static liblatentblend.a)
  set(_latentblend_system gcc_s util rt pthread m dl c)
endif()

if(_latentblend_shared AND NOT TARGET latentblend::shared)
  add_library(latentblend::shared SHARED IMPORTED)
  set_target_properties(latentblend::shared PROPERTIES
    IMPORTED_LOCATION "${_latentblend_shared}"
    INTERFACE_INCLUDE_DIRECTORIES "${_latentblend_include}")
  if(WIN32)
    set_target_properties(latentblend::shared PROPERTIES IMPORTED_IMPLIB "${_latentblend_import}")
  endif()
endif()

if(_latentblend_static AND NOT TARGET latentblend::static)
  add_library(latentblend::static STATIC IMPORTED)
  set_target_properties(latentblend::static PROPERTIES
    IMPORTED_LOCATION "${_latentblend_static}"
    IMPORTED_LINK_INTERFACE_LANGUAGES C
    INTERFACE_INCLUDE_DIRECTORIES "${_latentblend_include}"
    INTERFACE_LINK_LIBRARIES "${_latentblend_system}")
endif()

foreach(_latentblend_kind shared static)
  if(TARGET latentblend::${_latentblend_kind})
    set(latentblend_${_latentblend_kind}_FOUND TRUE)
  endif()
endforeach()

if(NOT TARGET latentblend::latentblend)
  if(TARGET latentblend::static AND (latentblend_USE_STATIC_LIBS OR NOT TARGET latentblend::shared))
    set(_latentblend_kind static)
  else()
    set(_latentblend_kind shared)
  endif()
  if(TARGET latentblend::${_latentblend_kind})
    add_library(latentblend::latentblend INTERFACE IMPORTED)
    set_target_properties(latentblend::latentblend PROPERTIES
      INTERFACE_LINK_LIBRARIES latentblend::${_latentblend_kind})
  endif()
endif()

set(latentblend_FOUND TRUE)
if(NOT TARGET latentblend::latentblend)
  set(latentblend_FOUND FALSE)
  set(latentblend_NOT_FOUND_MESSAGE "no library of latentblend in ${_latentblend_prefix}")
endif()
foreach(_latentblend_kind ${latentblend_FIND_COMPONENTS})
  if(latentblend_FIND_REQUIRED_${_latentblend_kind} AND NOT latentblend_${_latentblend_kind}_FOUND)
    set(latentblend_FOUND FALSE)
    set(latentblend_NOT_FOUND_MESSAGE
      "latentblend has no ${_latentblend_kind} library in ${_latentblend_prefix}")
  endif()
endforeach()

foreach(_latentblend_name prefix include import shared static system kind name)
  unset(_latentblend_${_latentblend_name})
endforeach()
