/* GPT-2's byte alphabet: each byte is written as one printable character, so that a vocabulary is
 * plain text. */
#ifndef LP__TEXT_BYTE_ALPHABET_H
#define LP__TEXT_BYTE_ALPHABET_H

#include "text/names.h"

/* The character that stands for a byte: its own code point where that is printable and no space in
 * Latin-1, else U+0100 and up, in the order of the bytes. */
uint32_t lp__byte_char(uint8_t byte);

/* UTF-8 of lp__byte_char: 1 or 2 bytes; returns how many. */
int lp__byte_spelling(uint8_t byte, char out[2]);

/* What a token of valid UTF-8 stands for: the bytes that its characters spell, or, if one of them
 * is no letter of the alphabet, its own bytes. Writes at most token.bytes bytes and returns how
 * many. */
size_t lp__spelled_bytes(lp__string token, char* out);

#endif
