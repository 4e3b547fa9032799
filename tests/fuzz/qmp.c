/* The QMP decoder: the first byte says in what pieces the rest arrives, as a socket would give it. Whatever
 * the pieces, the messages must be the same as in one. */
#include "vm/qmp.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static char *
decode(const uint8_t *data, size_t len, size_t step)
{
    g_autoptr(QmpDecoder) decoder = qmp_decoder_new(64 << 10);
    GString *all = g_string_new(NULL);
    gboolean good = TRUE;

    for (size_t at = 0; good && at < len; at += step) {
        json_t *message = NULL;
        qmp_decoder_feed(decoder, data + at, MIN(step, len - at));
        while ((good = qmp_decoder_next(decoder, &message, NULL)) && message) {
            g_autofree char *line = json_line(message);
            g_autoptr(GError) ignored = NULL;
            if (json_object_get(message, "error"))
                qmp_fail(message, "x", &ignored);
            g_string_append(all, line);
            g_string_append_c(all, '\n');
            json_decref(message);
        }
    }
    if (!good)
        g_string_append_c(all, '!');
    return g_string_free(all, FALSE);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 1)
        return 0;
    g_autofree char *pieces = decode(data + 1, len - 1, data[0] + 1u);
    g_autofree char *whole = decode(data + 1, len - 1, len);
    if (strcmp(pieces, whole) != 0)
        abort();
    return 0;
}
