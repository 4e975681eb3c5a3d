# OpenVINO: what OpenVINO_DIR names, else the wheel that `make` puts into .venv, which holds headers and libraries too.
file(GLOB wheels "${CMAKE_SOURCE_DIR}/.venv/lib/python3*/site-packages/openvino/cmake")
find_package(OpenVINO COMPONENTS Runtime HINTS ${wheels})
if(NOT OpenVINO_FOUND OR OpenVINO_VERSION VERSION_LESS 2025.0)
  message(FATAL_ERROR "OpenVINO 2025.0 or later was not found. Install its wheel (pip install openvino) or its archive, and give -DOpenVINO_DIR=DIR, the folder "
                      "of OpenVINOConfig.cmake (in the wheel: site-packages/openvino/cmake). Or build without it: -DTRTBERT_RUNNER_OPENVINO=OFF")
endif()
