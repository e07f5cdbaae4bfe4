/*
 * fuzz_handle.c - texts that may be handles
 *
 *     $ fuzz-build/tests/fuzz/fuzz_handle -max_total_time=60 tests/fuzz/corpus_handle
 *
 * Input   a text
 * Laws    What is accepted is the same token when it is written and read again.
 */
#include "fuzz.h"

#include "runtime/handles.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = fuzz_text(data, size);
    troupe_handle again;
    trp_token token, same;

    if (trp_token_parse(text, &token)) {
        trp_token_format(&token, again.text);
        TRP_ASSERT(strlen(again.text) < sizeof again.text);
        TRP_ASSERT(trp_token_parse(again.text, &same));
        TRP_ASSERT(strcmp(same.cluster, token.cluster) == 0 && strcmp(same.node, token.node) == 0);
        TRP_ASSERT(same.incarnation == token.incarnation && same.place == token.place);
        TRP_ASSERT(memcmp(same.secret, token.secret, sizeof same.secret) == 0);
    }
    free(text);
    return 0;
}
