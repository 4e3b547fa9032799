/* What stands behind -o, --object, --image-opts and json: on a command line, and sizes: lists of names and
 * values, read or refused. The first byte says which of them the rest is. */
#include "base/num.h"
#include "qemuimg/create_options.h"
#include "qemuimg/keyval.h"
#include "qemuimg/size.h"
#include "qemuimg/source.h"

#include <kho/secret.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* What is wrong is said on stderr, thousands of times a second: sanitizers and libFuzzer have the descriptor.
 */
static void
hush(void)
{
    static FILE *nowhere;

    if (!nowhere)
        stderr = nowhere = fopen("/dev/null", "w");
}

static void
try_create_options(const char *format, const char *text)
{
    g_auto(QimgOptions) options = { 0 };
    KhoImageCreate create = { .format = format };
    g_autofree char *list = NULL;

    g_assert_true(qimg_create_options_init(&options, format, TRUE, "a.img"));
    if (!qimg_option_list_join(&list, text) || qimg_option_list_wants_help(list)
        || !qimg_options_read(&options, list, "a.img"))
        return;
    if (qimg_create_options_apply(&options, "a.img", &create))
        g_assert_true(create.cluster_bytes == 0 || num_is_pow2(create.cluster_bytes));
}

static void
try_pairs(const char *text, gboolean is_json)
{
    g_autofree char *fault = NULL;
    g_autoptr(QimgKeyval) pairs =
        is_json ? qimg_keyval_parse_json(text, &fault) : qimg_keyval_parse(text, "driver", &fault);

    g_assert_true((pairs == NULL) == (fault != NULL));
    for (guint i = 0; pairs && i < pairs->len; i += 2)
        g_assert_nonnull(qimg_keyval_get(pairs, pairs->pdata[i]));
}

static void
try_source(const char *text, gboolean image_opts)
{
    g_auto(QimgSource) source = { 0 };

    if (qimg_source_read(text, NULL, image_opts, &source))
        g_assert_nonnull(source.path);
}

/* Those that name files would have them read. */
static void
try_secret(const char *text)
{
    g_autoptr(KhoSecrets) secrets = kho_secrets_new();
    g_autoptr(GError) error = NULL;
    guint8 key[32] = { 1 };

    if (strstr(text, "file"))
        return;
    g_assert_true(kho_secrets_add_bytes(secrets, "key", key, sizeof key, NULL));
    if (!kho_secrets_add(secrets, text, KHO_SECRETS_DATA, &error))
        g_assert_nonnull(error);
}

static void
try_sizes(const char *text)
{
    guint64 bytes = 0;
    g_autoptr(GError) error = NULL;

    qimg_size_parse(text, &bytes);
    if (num_parse_size(text, MIB, &bytes, &error))
        g_assert_cmpuint(bytes, <=, NUM_OFFSET_MAX);
    else
        g_assert_nonnull(error);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 1)
        return 0;
    g_autofree char *text = g_strndup((const char *) data + 1, len - 1);

    hush();
    switch (data[0]) {
    case 'q': try_create_options("qcow2", text); break;
    case 'r': try_create_options("raw", text); break;
    case 'v': try_create_options("vmdk", text); break;
    case 'k': try_pairs(text, FALSE); break;
    case 'j': try_pairs(text, TRUE); break;
    case 'n': try_source(text, FALSE); break;
    case 'i': try_source(text, TRUE); break;
    case 's': try_secret(text); break;
    default: try_sizes(text); break;
    }
    return 0;
}
