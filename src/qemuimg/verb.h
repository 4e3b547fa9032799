/* What a verb of qemu-img is: one const QimgVerb in a file of its own, named in verbs.def. Its table of
 * options drives the parsing (args.h) and the test that asks for a row of each. */
#ifndef KHO_QEMUIMG_VERB_H
#define KHO_QEMUIMG_VERB_H

#include <glib.h>

typedef enum {
    QIMG_END,
    QIMG_FLAG,  /* gboolean */
    QIMG_TEXT,  /* const char *: the last one counts */
    QIMG_TEXTS, /* GPtrArray * of const char *, in their order; NULL where there are none */
    QIMG_STEP,  /* GPtrArray * of const char *, pairs of the option's name and NULL, in their order; several
                   options may have one member */
    QIMG_STEP_WITH, /* the same with the value in place of NULL */
    QIMG_OPTIONS,   /* char *: -o lists, joined by commas; freed by qimg_args_clear */
    QIMG_OBJECT,    /* no member: --object, kept for the whole run (object.h) */
    QIMG_IGNORED,   /* no member: it takes a value that changes nothing here */
} QimgKind;

/* One option: a long name, a letter, or both. */
typedef struct QimgOption {
    QimgKind kind;
    const char *name; /* without dashes; NULL for none */
    char letter;      /* 0 for none */
    gsize offset;     /* of the member in the verb's struct */
    /* Looks at a value where the command line is read, so that the first mistake is the one that is told; it
     * has said what is wrong when it returns FALSE. May be NULL. */
    gboolean (*take)(const char *value);
} QimgOption;

typedef struct QimgVerb {
    const char *name;
    const char *synopsis;      /* as help prints it, behind the name */
    const QimgOption *options; /* ended by { 0 } */
    gboolean last_is_size;     /* the last word is a name, be it "-1G" */
    gsize args_bytes;          /* sizeof the struct that the options fill; it is zeroed first */
    /* @names: the arguments that are no options, NULL-terminated. Returns the exit status; what went wrong
     * has been said. */
    int (*run)(const void *args, char *const *names);
} QimgVerb;

#endif
