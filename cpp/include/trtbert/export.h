// What the library shows: everything else in it is hidden.
#pragma once

#if !defined(TRTBERT_RUNNER_API)
#define TRTBERT_RUNNER_API __attribute__((visibility("default")))
#endif
