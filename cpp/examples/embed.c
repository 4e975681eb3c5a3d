/* embed PACKAGE TEXT... : prints the answers of a package to texts as JSON, or the width of its embeddings. */
#include <stdio.h>
#include <string.h>
#include <trtbert/trtbert.h>

static int fail(void) {
  fprintf(stderr, "%s\n", trtbert_error());
  return 1;
}

int main(int argc, char** argv) {
  trtbert_predictor* predictor = NULL;
  if (argc < 3) {
    fprintf(stderr, "usage: embed PACKAGE TEXT...\n");
    return 2;
  }
  if (trtbert_load(argv[1], 0, &predictor) != TRTBERT_OK) {
    return fail();
  }
  if (strcmp(trtbert_task(predictor), "sentence-similarity") == 0) {
    float* values = NULL;
    size_t width = 0;
    if (trtbert_embed(predictor, (char const* const*)(argv + 2), (size_t)(argc - 2), &values, &width) != TRTBERT_OK) {
      trtbert_free(predictor);
      return fail();
    }
    printf("%zu %f\n", width, values[0]);
    trtbert_free_values(values);
  } else {
    char* answer = NULL;
    if (trtbert_predict(predictor, argv[2], &answer) != TRTBERT_OK) {
      trtbert_free(predictor);
      return fail();
    }
    printf("%s\n", answer);
    trtbert_free_text(answer);
  }
  trtbert_free(predictor);
  return 0;
}
