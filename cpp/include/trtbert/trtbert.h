/* The C interface: a handle to a package, JSON or arrays in and out. No exception leaves it; a failure says why. */
#ifndef TRTBERT_TRTBERT_H_
#define TRTBERT_TRTBERT_H_

#include <stddef.h>

#include "trtbert/export.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct trtbert_predictor trtbert_predictor;

/* What a call answers. The message of a failure is that of trtbert_error(). */
typedef enum trtbert_status {
  TRTBERT_OK = 0,
  TRTBERT_INTERNAL = 1,       /* a bug */
  TRTBERT_INPUT = 2,          /* a text, a request, an option or a package that cannot be used as it is */
  TRTBERT_UNSUPPORTED = 3,    /* a package, a tokenizer or a task that this library does not support */
  TRTBERT_MISSING_RUNTIME = 5 /* a runtime or a GPU that the package needs is not there */
} trtbert_status;

/* The version of the library, such as "0.1.0". */
TRTBERT_RUNNER_API char const* trtbert_version(void);

/* Opens a package folder. `threads` bounds the threads of one inference, 0 leaves it to the runtime. */
TRTBERT_RUNNER_API trtbert_status trtbert_load(char const* folder, int threads, trtbert_predictor** predictor);
TRTBERT_RUNNER_API void trtbert_free(trtbert_predictor* predictor);

/* The task of the package, such as "text-classification"; it lives as long as the predictor. NULL where that is NULL. */
TRTBERT_RUNNER_API char const* trtbert_task(trtbert_predictor const* predictor);

/* {"inputs": [...], "options": {...}} -> {"outputs": [...]}, UTF-8 that ends with a NUL; give it to trtbert_free_text. */
TRTBERT_RUNNER_API trtbert_status trtbert_predict(trtbert_predictor const* predictor, char const* request, char** answer);
TRTBERT_RUNNER_API void trtbert_free_text(char* text);

/* sentence-similarity: the embeddings of `count` texts, one behind the other in `values`; give it to trtbert_free_values. */
TRTBERT_RUNNER_API trtbert_status trtbert_embed(trtbert_predictor const* predictor, char const* const* texts, size_t count, float** values,
                                                size_t* width);
TRTBERT_RUNNER_API void trtbert_free_values(float* values);

/* Why the last call of this thread failed; "" after one that did not. It lives until the next call. */
TRTBERT_RUNNER_API char const* trtbert_error(void);

#ifdef __cplusplus
}
#endif

#endif
