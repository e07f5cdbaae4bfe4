/*
 * fuzz_signature.c - the signatures of types that another node announces
 *
 *     $ fuzz-build/tests/fuzz/fuzz_signature -max_total_time=60 tests/fuzz/corpus_signature
 *
 * Input   a signature
 * Laws    A type that is learned has that signature.
 */
#include "fuzz.h"

#include "mailbox/type.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = fuzz_text(data, size);
    const trp_type *type = trp_type_learn(text);

    TRP_ASSERT(!type || strcmp(type->signature, text) == 0);
    free(text);
    return 0;
}
