/* What a verb of the command line is: one const CliVerb in a file of its own (or of its noun's), named in
 * verbs.def. Parsing, help, the man page and completion all come from these tables. How values are read is in
 * parse.h. */
#ifndef KHO_CLI_VERB_H
#define KHO_CLI_VERB_H

#include <kho/error.h>
#include <kho/job.h>
#include <stddef.h>

typedef enum {
    CLI_END,    /* ends a table */
    CLI_STR,    /* const char * */
    CLI_CHOICE, /* const char *: one of .choices */
    CLI_SIZE,   /* guint64, in bytes; a bare number counts .unit_bytes (0: bytes) */
    CLI_UINT,   /* guint64, at most .max (0: no limit) */
    CLI_FLAG,   /* gboolean; takes no value */
    CLI_STRV,   /* char **, NULL-terminated: an option given any number of times, or all remaining positionals
                 */
} CliKind;

/* What a value names: completion offers these. */
typedef enum {
    CLI_ANY,
    CLI_FILE,
    CLI_MACHINE,  /* any machine */
    CLI_SNAPSHOT, /* of the machine that the verb's CLI_MACHINE argument names */
    CLI_POOL,
    CLI_VOLUME, /* of the pool that the verb's CLI_POOL argument names */
    CLI_VERB_NAME,
} CliObject;

/* The fallback of an argument that may be left out and has no default: strings are NULL then, numbers 0. */
#define CLI_OPTIONAL ""

/* One argument. A name in capitals ("FILE", "SOURCE-HOST") is positional, and may be given by name as well
 * (--file, --source-host); positionals are filled in table order, those given by name are passed over.
 * A name with dashes ("--format") is an option: `--format VALUE` or `--format=VALUE`. */
typedef struct CliArg {
    CliKind kind;
    const char *name;
    gsize offset;         /* of the value in the verb's struct */
    const char *fallback; /* NULL: required; CLI_OPTIONAL; or the text to use (flags: always FALSE) */
    const char *help;     /* one phrase, no capital, no full stop */
    char short_name;      /* 'f' for -f; 0 for none */
    CliObject object;
    const char *choices; /* "qcow2|raw" */
    guint64 unit_bytes;
    guint64 max;
    gboolean hidden; /* accepted, in no help */
} CliArg;

/* What an exit status means for one verb, beside those that all verbs share (exit.h). */
typedef struct CliStatus {
    int status;
    const char *when;
} CliStatus;

/* What a run is given beside its own arguments. */
typedef struct CliRun {
    const char *root;  /* --root or KHO_ROOT for kho_host_open; NULL */
    gboolean json;     /* print JSON instead of text; only for verbs with .json */
    gboolean quiet;    /* no message of success */
    const KhoJob *job; /* progress and cancelling: pass it to every call that takes one */
    int status;        /* set by a verb that succeeded but has more to say; 0 otherwise */
} CliRun;

typedef struct CliVerb {
    const char *name;          /* "start", "pool-list": as virsh writes it; `pool list` is the same */
    const char *noun;          /* "domain", "pool", "vol", "img", ... : the group in help */
    const char *summary;       /* one phrase, no capital, no full stop */
    const char *description;   /* paragraphs divided by "\n\n"; NULL */
    const char *examples;      /* one command a line, each with "  # what it does" where that helps; NULL */
    const CliStatus *statuses; /* ended by { 0 }; NULL */
    const CliArg *args;        /* ended by { 0 }; NULL */
    gsize args_bytes;          /* sizeof the struct that @args fills; it is zeroed first */
    gboolean json;             /* it prints data, and takes --json */
    gboolean hidden;
    gboolean (*run)(CliRun *cli, const void *args, GError **error);
} CliVerb;

static inline gboolean
cli_arg_is_positional(const CliArg *arg)
{
    return arg->name[0] != '-';
}

/* In the order of help. */
extern const CliVerb *const cli_verbs[];
extern const gsize cli_n_verbs;

typedef struct CliNoun {
    const char *name, *summary;
} CliNoun;

extern const CliNoun cli_nouns[];
extern const gsize cli_n_nouns;

/* NULL where there is none. */
const CliVerb *cli_verb_find(const char *name);
const CliNoun *cli_noun_find(const char *name);

/* The verb that the first words of @argv (NULL-terminated) name: `pool-list`, `pool list`, `domain start`.
 * *used is set to how many words that took. NULL with KHO_ERROR_INVALID and names that come near. */
const CliVerb *cli_verb_of_words(char *const *argv, int *used, GError **error);

#endif
