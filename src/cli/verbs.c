/* The table of verbs and the look-ups in it; the rows themselves stand in verbs.def. */
#include "base/error.h"
#include "cli/verb.h"
#include <string.h>

#define VERB(verb) extern const CliVerb verb;
#include "cli/verbs.def"
#undef VERB

#define VERB(verb) &verb,
const CliVerb *const cli_verbs[] = {
#include "cli/verbs.def"
};
#undef VERB
const gsize cli_n_verbs = G_N_ELEMENTS(cli_verbs);

const CliNoun cli_nouns[] = {
    { "domain", "machines: define, run, look at, end" },
    { "snapshot", "snapshots of machines: states to go back to" },
    { "pool", "pools: folders that keep disks" },
    { "vol", "volumes: the disks in a pool" },
    { "backup", "backups: points of machines, in a folder of any file system" },
    { "img", "image files, wherever they are (under the name qemu-img, kho takes qemu-img's own arguments)" },
    { "kho", "kho itself" },
};
const gsize cli_n_nouns = G_N_ELEMENTS(cli_nouns);

const CliVerb *
cli_verb_find(const char *name)
{
    for (gsize i = 0; i < cli_n_verbs; i++)
        if (strcmp(cli_verbs[i]->name, name) == 0)
            return cli_verbs[i];
    return NULL;
}

const CliNoun *
cli_noun_find(const char *name)
{
    for (gsize i = 0; i < cli_n_nouns; i++)
        if (strcmp(cli_nouns[i].name, name) == 0)
            return &cli_nouns[i];
    return NULL;
}

/* How many letters must be put in, taken out, replaced or swapped to make @b of @a. */
static guint
edit_distance(const char *a, const char *b)
{
    enum { MAX = 32 };
    gsize la = strlen(a), lb = strlen(b);
    guint d[MAX + 1][MAX + 1];

    if (la > MAX || lb > MAX)
        return G_MAXUINT;
    for (gsize i = 0; i <= la; i++)
        d[i][0] = (guint) i;
    for (gsize j = 0; j <= lb; j++)
        d[0][j] = (guint) j;
    for (gsize i = 1; i <= la; i++)
        for (gsize j = 1; j <= lb; j++) {
            guint replace = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            d[i][j] = MIN(replace, MIN(d[i - 1][j], d[i][j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                d[i][j] = MIN(d[i][j], d[i - 2][j - 2] + 1);
        }
    return d[la][lb];
}

/* ": did you mean A, B or C?", or what lists all verbs. */
static char *
near_verbs(const char *word)
{
    g_autoptr(GPtrArray) near = g_ptr_array_new();
    guint limit = strlen(word) < 5 ? 1 : 2;

    for (guint wanted = 0; wanted <= limit + 1 && near->len < 3; wanted++)
        for (gsize i = 0; i < cli_n_verbs && near->len < 3; i++) {
            const CliVerb *verb = cli_verbs[i];
            gboolean begins = strlen(word) >= 3 && g_str_has_prefix(verb->name, word);
            guint distance = edit_distance(word, verb->name);
            if (!verb->hidden && (distance <= limit ? distance == wanted : begins && wanted == limit + 1))
                g_ptr_array_add(near, (gpointer) verb->name);
        }
    if (near->len == 0)
        return g_strdup(": `kho help` lists all verbs");
    GString *text = g_string_new(": did you mean ");
    for (guint i = 0; i < near->len; i++)
        g_string_append_printf(text, "%s%s",
                               i == 0              ? ""
                               : i + 1 < near->len ? ", "
                                                   : " or ",
                               (const char *) near->pdata[i]);
    return g_string_free(g_string_append_c(text, '?'), FALSE);
}

static const CliVerb *
verb_of_noun(const CliNoun *noun, const char *word)
{
    g_autofree char *joined = g_strdup_printf("%s-%s", noun->name, word);
    const CliVerb *verb = cli_verb_find(joined);
    if (verb)
        return verb;
    verb = cli_verb_find(word);
    return verb && strcmp(verb->noun, noun->name) == 0 ? verb : NULL;
}

const CliVerb *
cli_verb_of_words(char *const *argv, int *used, GError **error)
{
    const CliVerb *verb = cli_verb_find(argv[0]);
    const CliNoun *noun = cli_noun_find(argv[0]);

    *used = 1;
    if (verb)
        return verb;
    if (noun && argv[1] && argv[1][0] != '-') {
        *used = 2;
        verb = verb_of_noun(noun, argv[1]);
        if (verb)
            return verb;
    }
    g_autofree char *word = *used == 2 ? g_strdup_printf("%s-%s", argv[0], argv[1]) : g_strdup(argv[0]);
    g_autofree char *near = near_verbs(word);
    fail(error, KHO_ERROR_INVALID, "unknown verb '%s'%s", word, near);
    return NULL;
}
