# SPDX-License-Identifier: Apache-2.0
# Given as CMAKE_PROJECT_INCLUDE where ROS 2 comes from PyPI wheels. Never used with a native ROS 2.

# The wheels' exported targets name include directories of the machine that built them, and CMake refuses a target
# with a directory that does not exist. Keep those that exist here.
function(serl_drop_missing_include_directories)
  get_property(imported DIRECTORY "${CMAKE_SOURCE_DIR}" PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS imported)
    get_target_property(directories ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(NOT directories)
      continue()
    endif()
    set(existing "")
    foreach(directory IN LISTS directories)
      if(directory MATCHES "\\$<" OR EXISTS "${directory}")
        list(APPEND existing "${directory}")
      endif()
    endforeach()
    set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${existing}")
  endforeach()
endfunction()
cmake_language(DEFER DIRECTORY "${CMAKE_SOURCE_DIR}" CALL serl_drop_missing_include_directories)

# rclpy needs the C structs, the Python module and the C type supports; C++ would double the build time.
option(SERL_PYTHON_TYPESUPPORT_ONLY "generate only the type supports that rclpy with Fast DDS uses" ON)
get_property(languages GLOBAL PROPERTY ENABLED_LANGUAGES)
# A package without C has no interfaces either.
if(SERL_PYTHON_TYPESUPPORT_ONLY AND "C" IN_LIST languages)
  find_package(ament_cmake QUIET)
  find_package(rosidl_default_generators QUIET)
  if(rosidl_default_generators_FOUND)
    list(FILTER AMENT_EXTENSIONS_rosidl_generate_idl_interfaces EXCLUDE REGEX
      "^(rosidl_generator_cpp|rosidl_typesupport_cpp|rosidl_typesupport_fastrtps_cpp|rosidl_typesupport_introspection_cpp):")
  endif()
endif()
