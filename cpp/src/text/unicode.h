// What characters are, as Hugging Face's `tokenizers` sees them: ICU's data, cut back to the versions of Unicode that it has.
#pragma once

#include <string>

namespace trtbert::unicode {

// Of Unicode 8, in the crate unicode_categories.
bool is_removed_by_bert(char32_t character);  // control, format and private-use characters, NUL and U+FFFD, but not tab and line ends
bool is_punctuation(char32_t character);      // ASCII symbols, such as $, are punctuation too
bool is_nonspacing_mark(char32_t character);

// Of Unicode 9, in the crate unicode-normalization-alignments.
bool is_combining_mark(char32_t character);
int combining_class(char32_t character);
// Appends the whole decomposition, of the character itself where it has none.
void append_decomposition(char32_t character, bool is_compatible, std::u32string& to);
// The character that both make, 0 where they make none.
char32_t composed(char32_t first, char32_t second);

// Of Unicode 17, in Rust and its crate regex.
bool is_white_space(char32_t character);
void append_lower_case(char32_t character, std::u32string& to);
bool is_word(char32_t character);  // \w of a regular expression

// The blocks that BERT's own tokenizer puts between spaces.
bool is_chinese(char32_t character);

}  // namespace trtbert::unicode
