// Unicode's normal forms, with the place of every character.
#pragma once

#include "tokenizer/characters.h"

namespace trtbert {

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

void to_normal_form(Characters& characters, NormalForm form);

}  // namespace trtbert
