/* Drives kho's engine from a test: commands on stdin, one answer line each on stdout. What a person would
 * type is `kho img`; here are single reads and writes, as qemu-io has them.
 *
 *   open FORMAT PATH        write OFF LEN BYTE     read OFF LEN      (answers the SHA-256 of what was read)
 *   openalone FORMAT PATH   (nothing that the image names is admitted)
 *   openro FORMAT PATH      zero OFF LEN           resize BYTES      flush      close
 *   secret PROPERTIES       (for all that is opened from then on)
 *   mergeup OVERLAY BASE FORMAT      mergedown OVERLAY BASE FORMAT      setbacking PATH [NAME FORMAT]
 *   mergecost OVERLAY BASE FORMAT    (answers bytes and space, up and down)
 *
 * Answers "ok", "ok VALUE" or "error CODE MESSAGE". Ends at the end of stdin. */
#include <kho/image_layers.h>

#include <stdio.h>
#include <string.h>

typedef struct {
    KhoImage *image;
    char *path, *format;
    KhoSecrets *secrets;
} Session;

static gboolean
refuse(GError **error, const char *message)
{
    g_set_error_literal(error, KHO_ERROR, KHO_ERROR_INVALID, message);
    return FALSE;
}

static gboolean
do_open(Session *s, char **words, KhoImageFlags flags, GError **error)
{
    if (s->image)
        return refuse(error, "an image is open");
    const KhoImageSource source = { .path = words[2],
                                    .format = words[1],
                                    .flags = flags,
                                    .gate =
                                        g_strcmp0(words[0], "openalone") == 0 ? NULL : &kho_image_gate_open,
                                    .secrets = s->secrets };
    s->image = kho_image_open_source(&source, error);
    if (!s->image)
        return FALSE;
    if (s->path == words[2]) /* again, after a resize */
        return TRUE;
    g_free(s->path);
    g_free(s->format);
    s->path = g_strdup(words[2]);
    s->format = g_strdup(words[1]);
    return TRUE;
}

static gboolean
do_close(Session *s, GError **error)
{
    return !s->image || kho_image_close(g_steal_pointer(&s->image), error);
}

static gboolean
do_write(Session *s, guint64 off, guint64 len, guint64 byte, GError **error)
{
    g_autofree guint8 *buf = g_malloc(len);

    memset(buf, (int) byte, len);
    return kho_image_write(s->image, off, buf, len, error);
}

static gboolean
do_read(Session *s, guint64 off, guint64 len, char **answer, GError **error)
{
    g_autofree guint8 *buf = g_malloc(len);

    if (!kho_image_read(s->image, off, buf, len, error))
        return FALSE;
    *answer = g_compute_checksum_for_data(G_CHECKSUM_SHA256, buf, len);
    return TRUE;
}

/* Resizing is done to a path, as a person does it. */
static gboolean
do_resize(Session *s, guint64 bytes, GError **error)
{
    const KhoImageResize options = { .size_bytes = bytes, .secrets = s->secrets };

    if (!do_close(s, error)
        || !kho_image_resize(s->path, s->format, &options, &kho_image_gate_open, NULL, error))
        return FALSE;
    return do_open(s, (char *[]){ (char *) "open", s->format, s->path }, KHO_IMAGE_WRITE, error);
}

/* Verbs on paths, of which none may be open. */
static gboolean
run_layers(Session *s, char **words, gboolean *known, char **answer, GError **error)
{
    guint n = g_strv_length(words);
    KhoImageMerge merge = { .overlay = words[1], .cut_base = TRUE, .secrets = s->secrets };

    *known = TRUE;
    if (n == 4) {
        merge.base = words[2];
        merge.base_format = words[3];
    }
    if (n == 4 && g_str_equal(words[0], "mergeup"))
        return kho_image_merge_up(&merge, &kho_image_gate_open, NULL, error);
    if (n == 4 && g_str_equal(words[0], "mergedown"))
        return kho_image_merge_down(&merge, &kho_image_gate_open, NULL, error);
    if (n == 4 && g_str_equal(words[0], "mergecost")) {
        KhoImageMergeCost cost;
        if (!kho_image_merge_cost(&merge, KHO_IMAGE_READ, &cost, NULL, error))
            return FALSE;
        *answer = g_strdup_printf("%" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT
                                  " %" G_GUINT64_FORMAT,
                                  cost.up_bytes, cost.up_space_bytes, cost.down_bytes, cost.down_space_bytes);
        return TRUE;
    }
    if ((n == 2 || n == 4) && g_str_equal(words[0], "setbacking"))
        return kho_image_set_backing(words[1], n == 4 ? words[2] : NULL, n == 4 ? words[3] : NULL, error);
    *known = FALSE;
    return FALSE;
}

static gboolean
run(Session *s, char **words, char **answer, GError **error)
{
    guint n = g_strv_length(words);
    guint64 number[3] = { 0 };
    gboolean known, done = n >= 2 && run_layers(s, words, &known, answer, error);

    if (n >= 2 && known)
        return done;

    if (n == 2 && g_str_equal(words[0], "secret"))
        return kho_secrets_add(s->secrets, words[1], KHO_SECRETS_DATA, error);
    if (n == 3 && g_str_equal(words[0], "open"))
        return do_open(s, words, KHO_IMAGE_WRITE, error);
    if (n == 3 && (g_str_equal(words[0], "openro") || g_str_equal(words[0], "openalone")))
        return do_open(s, words, KHO_IMAGE_READ, error);
    if (n == 1 && g_str_equal(words[0], "close"))
        return do_close(s, error);
    if (!s->image)
        return refuse(error, "no image is open");
    for (guint i = 0; i < G_N_ELEMENTS(number) && i + 1 < n; i++)
        number[i] = g_ascii_strtoull(words[i + 1], NULL, 10);
    if (n == 4 && g_str_equal(words[0], "write"))
        return do_write(s, number[0], number[1], number[2], error);
    if (n == 3 && g_str_equal(words[0], "zero"))
        return kho_image_zero(s->image, number[0], number[1], error);
    if (n == 3 && g_str_equal(words[0], "read"))
        return do_read(s, number[0], number[1], answer, error);
    if (n == 2 && g_str_equal(words[0], "resize"))
        return do_resize(s, number[0], error);
    if (n == 1 && g_str_equal(words[0], "flush"))
        return kho_image_flush(s->image, error);
    return refuse(error, "unknown command");
}

int
main(void)
{
    Session session = { .secrets = kho_secrets_new() };
    char line[4096];

    while (fgets(line, sizeof line, stdin)) {
        g_autofree char *answer = NULL;
        g_autoptr(GError) error = NULL;
        g_auto(GStrv) words = g_strsplit(g_strchomp(line), " ", 3 + (line[0] != 'o'));

        if (!run(&session, words, &answer, &error))
            printf("error %s %s\n", kho_error_code_name((KhoErrorCode) error->code), error->message);
        else
            printf("ok%s%s\n", answer ? " " : "", answer ? answer : "");
        fflush(stdout);
    }
    g_autoptr(GError) error = NULL;
    gboolean closed = do_close(&session, &error);
    g_free(session.path);
    g_free(session.format);
    kho_secrets_free(session.secrets);
    return closed ? 0 : 1;
}
