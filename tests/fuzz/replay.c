/* Replays a corpus: runs LLVMFuzzerTestOneInput over every file of the folder given, in the order of names.
 * The same harness linked with libFuzzer (-Dlibfuzzer=true) makes new inputs; those worth keeping join the
 * corpus. */
#include <glib.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static gint
by_name(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *) a, *(const char *const *) b);
}

static GPtrArray *
corpus_names(const char *folder)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GDir) dir = g_dir_open(folder, 0, &error);
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    const char *name;

    if (!dir)
        g_printerr("%s\n", error->message);
    while (dir && (name = g_dir_read_name(dir)))
        g_ptr_array_add(names, g_strdup(name));
    g_ptr_array_sort(names, by_name);
    return names;
}

static gboolean
replay(const char *folder, const char *name)
{
    g_autofree char *path = g_build_filename(folder, name, NULL);
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    gsize len;

    if (!g_file_get_contents(path, &text, &len, &error)) {
        g_printerr("%s\n", error->message);
        return FALSE;
    }
    /* A copy of exactly this length, so that the sanitizer sees a read one byte past it. */
    g_autofree uint8_t *data = g_malloc(MAX(len, 1));
    memcpy(data, text, len);
    g_print("# %s\n", name); /* before the run: the last name printed is the culprit of a crash */
    LLVMFuzzerTestOneInput(data, len);
    return TRUE;
}

int
main(int argc, char **argv)
{
    if (argc != 2) {
        g_printerr("usage: %s CORPUS-FOLDER\n", argv[0]);
        return EXIT_FAILURE;
    }
    g_autoptr(GPtrArray) names = corpus_names(argv[1]);
    if (names->len == 0) {
        g_printerr("%s: no inputs to replay\n", argv[1]);
        return EXIT_FAILURE;
    }
    for (guint i = 0; i < names->len; i++)
        if (!replay(argv[1], names->pdata[i]))
            return EXIT_FAILURE;
    g_print("%u inputs replayed\n", names->len);
    return EXIT_SUCCESS;
}
