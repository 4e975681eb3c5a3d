// Tensors in the element types of TensorRT, from and to double.
#pragma once

#include <NvInferRuntime.h>

#include <string>
#include <vector>

namespace host {

using Shape = std::vector<int64_t>;
using Values = std::vector<double>;

int64_t num_elements(Shape const& shape);
nvinfer1::Dims dims_of(Shape const& shape);
char const* name_of(nvinfer1::DataType type);

// Rounded to the nearest, as a cast on the GPU is.
std::vector<char> encode(Values const& values, nvinfer1::DataType type);
Values decode(std::vector<char> const& bytes, nvinfer1::DataType type);

}  // namespace host
