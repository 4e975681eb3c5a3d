// FusedSkipLayerNorm and FusedEmbedLayerNorm: every type, and widths for each kernel: vectors or single elements, a warp or a block, not
// cached.
#include "capi.h"
#include "cases.h"

namespace {

struct Shape {
  int64_t rows, width;
  bool is_unaligned = false;
};

constexpr Shape kShapes[] = {{5, 1}, {7, 33}, {5, 384}, {3, 384, true}, {2, 768}, {2, 1023}, {1, 1032}, {2, 1025}, {2, 4104}, {2, 4097}};

struct Case {
  trtbert::DType dtype;
  bool has_int8_x, has_int8_y, has_optional;  // the bias, or the token types
  Shape shape;

  std::string name(std::string const& op) const {
    return op + " " + name_of(dtype) + (has_int8_x ? " int8-in" : "") + (has_int8_y ? " int8-out" : "") +
           (has_optional ? " optional" : "") + (shape.is_unaligned ? " unaligned " : " ") + std::to_string(shape.rows) + "x" +
           std::to_string(shape.width);
  }
  Tensor rows(int64_t count, float range = 2.0f) const {
    return {has_int8_x ? Element::kInt8 : element_of(dtype), count * shape.width, range, shape.is_unaligned};
  }
  Tensor vector() const { return {element_of(dtype), shape.width}; }
  Tensor output(int64_t count) const { return {has_int8_y ? Element::kInt8 : element_of(dtype), count * shape.width}; }
  float y_scale() const { return has_int8_y ? 0.025f : 0.0f; }
};

void run_skip(Case const& c) {
  std::string const name = c.name("skip");
  if (!is_asked_for(name)) return;
  Tensor x = c.rows(c.shape.rows), skip = c.rows(c.shape.rows), gamma = c.vector(), beta = c.vector(), bias = c.vector();
  Tensor y = c.output(c.shape.rows);
  trtbert::SkipLayerNormParams const params{x.data(),
                                            skip.data(),
                                            gamma.data(),
                                            beta.data(),
                                            c.has_optional ? bias.data() : nullptr,
                                            y.data(),
                                            c.shape.rows,
                                            c.shape.width,
                                            1e-5f,
                                            c.has_int8_x ? 0.03f : 0.0f,
                                            c.has_int8_x ? 0.02f : 0.0f,
                                            c.y_scale()};
  report(name, trtbert_fused_skip_layer_norm(static_cast<int32_t>(c.dtype), &params, nullptr), y);
}

// Two sequences; ids from before the start of the table to one beyond its end.
Tensor ids(int64_t count, int64_t rows) {
  Tensor result(Element::kInt32, count);
  for (int64_t i = 0; i < count; ++i) result.int32()[i] = static_cast<int32_t>(random_below(2 * rows + 2) - rows - 1);
  return result;
}

void run_embed(Case const& c) {
  std::string const name = c.name("embed");
  if (!is_asked_for(name)) return;
  constexpr int64_t kBatch = 2, kWords = 11, kPositions = 5, kTokenTypes = 2;
  int64_t const tokens = kBatch * c.shape.rows, position_batch = c.has_optional ? 1 : kBatch;
  Tensor input_ids = ids(tokens, kWords), position_ids = ids(position_batch * c.shape.rows, kPositions),
         type_ids = ids(tokens, kTokenTypes);
  Tensor word = c.rows(kWords), position = c.rows(kPositions), type = c.rows(kTokenTypes), gamma = c.vector(), beta = c.vector();
  Tensor y = c.output(tokens);
  trtbert::EmbedLayerNormParams params{};
  params.input_ids = input_ids.int32();
  params.position_ids = position_ids.int32();
  params.token_type_ids = c.has_optional ? type_ids.int32() : nullptr;
  params.word = word.data();
  params.position = position.data();
  params.token_type = c.has_optional ? type.data() : nullptr;
  params.gamma = gamma.data();
  params.beta = beta.data();
  params.y = y.data();
  params.batch = kBatch;
  params.position_batch = position_batch;
  params.length = c.shape.rows;
  params.width = c.shape.width;
  params.word_rows = kWords;
  params.position_rows = kPositions;
  params.token_type_rows = kTokenTypes;
  params.epsilon = 1e-5f;
  params.word_scale = params.position_scale = params.token_type_scale = c.has_int8_x ? 0.02f : 0.0f;
  params.y_scale = c.y_scale();
  report(name, trtbert_fused_embed_layer_norm(static_cast<int32_t>(c.dtype), &params, nullptr), y);
}

}  // namespace

void run_layer_norm_cases() {
  for (trtbert::DType const dtype : kTypes) {
    for (int flags = 0; flags < 4; ++flags) {
      bool has_optional = false;
      for (Shape const& shape : kShapes) {
        has_optional = !has_optional;
        Case const c{dtype, (flags & 1) != 0, (flags & 2) != 0, has_optional, shape};
        run_skip(c);
        run_embed(c);
      }
    }
  }
}
