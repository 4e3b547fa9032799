/* QEMU's option lists: "cluster_size=64k,lazy_refcounts" (a comma within a value is doubled), their types and
 * their messages. Which options a format has stands in create_options.c; --image-opts and --object have other
 * rules (keyval.h). */
#ifndef KHO_QEMUIMG_OPTION_LIST_H
#define KHO_QEMUIMG_OPTION_LIST_H

#include <glib.h>

typedef enum { QIMG_OPT_STRING, QIMG_OPT_BOOL, QIMG_OPT_NUMBER, QIMG_OPT_SIZE } QimgOptType;

/* One option that a list may hold. */
typedef struct {
    const char *name;
    QimgOptType type;
    const char *help;
    const char *fallback; /* shown and used where it is not given; NULL: nothing is */
} QimgOptRow;

/* A list as it was read: a value for each row that has one. */
typedef struct {
    const QimgOptRow *rows;
    guint n_rows;
    char **values; /* in the form in which they are shown; NULL: not given */
} QimgOptions;

/* Appends the list @more to *list (NULL: none yet); FALSE where it cannot be one, which has been said. */
gboolean qimg_option_list_join(char **list, const char *more);
/* Does it ask for help ("help", "?")? */
gboolean qimg_option_list_wants_help(const char *list);
/* One line an option, by name. */
void qimg_option_rows_print(const QimgOptRow *rows, guint n_rows);

void qimg_options_init(QimgOptions *options, const QimgOptRow *rows, guint n_rows);
void qimg_options_clear(QimgOptions *options);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(QimgOptions, qimg_options_clear)

/* Reads @list (NULL: nothing). What is wrong is said about @subject ("qemu-img: SUBJECT: ..."). */
gboolean qimg_options_read(QimgOptions *options, const char *list, const char *subject);
/* FALSE where no row has that name. */
gboolean qimg_options_set(QimgOptions *options, const char *name, const char *value);

/* What was given, or the fallback, or NULL. */
const char *qimg_options_get(const QimgOptions *options, const char *name);
/* NULL where it was not given. */
const char *qimg_options_given(const QimgOptions *options, const char *name);
/* Of a bool, a number or a size; 0 where there is none. */
guint64 qimg_options_number(const QimgOptions *options, const char *name);

/* "cluster_size=65536 size=1048576": in the order of the rows, each behind a blank. */
void qimg_options_print(const QimgOptions *options);

#endif
