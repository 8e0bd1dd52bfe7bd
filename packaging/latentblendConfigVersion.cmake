# The version is the installed header's. A version fits if nothing was broken since the one asked for:
# the same MAJOR, and while that is 0 the same MINOR.

set(_latentblend_header "${CMAKE_CURRENT_LIST_DIR}/../../../include/latentblend.h")
foreach(_latentblend_part MAJOR MINOR PATCH)
  set(_latentblend_${_latentblend_part} "")
  if(EXISTS "${_latentblend_header}")
    file(STRINGS "${_latentblend_header}" _latentblend_line
      REGEX "^#define LB_VERSION_${_latentblend_part} [0-9]+$")
    string(REGEX REPLACE "^.* " "" _latentblend_${_latentblend_part} "${_latentblend_line}")
  endif()
endforeach()
set(PACKAGE_VERSION "${_latentblend_MAJOR}.${_latentblend_MINOR}.${_latentblend_PATCH}")

# Up to here a newer version fits.
if(_latentblend_MAJOR EQUAL 0)
  set(_latentblend_oldest "0.${_latentblend_MINOR}")
else()
  set(_latentblend_oldest "${_latentblend_MAJOR}")
endif()

set(PACKAGE_VERSION_COMPATIBLE FALSE)
set(PACKAGE_VERSION_EXACT FALSE)
if(PACKAGE_FIND_VERSION_RANGE)
  if(NOT PACKAGE_VERSION VERSION_LESS PACKAGE_FIND_VERSION_MIN
      AND (PACKAGE_VERSION VERSION_LESS PACKAGE_FIND_VERSION_MAX
        OR (PACKAGE_FIND_VERSION_RANGE_MAX STREQUAL "INCLUDE"
          AND PACKAGE_VERSION VERSION_EQUAL PACKAGE_FIND_VERSION_MAX)))
    set(PACKAGE_VERSION_COMPATIBLE TRUE)
  endif()
elseif(PACKAGE_VERSION VERSION_EQUAL PACKAGE_FIND_VERSION)
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
  set(PACKAGE_VERSION_EXACT TRUE)
elseif(NOT PACKAGE_VERSION VERSION_LESS PACKAGE_FIND_VERSION
    AND NOT PACKAGE_FIND_VERSION VERSION_LESS _latentblend_oldest)
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
endif()

foreach(_latentblend_name header line part MAJOR MINOR PATCH oldest name)
  unset(_latentblend_${_latentblend_name})
endforeach()
