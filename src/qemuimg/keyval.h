/* "driver=qcow2,file.driver=file,file.filename=a.img" of --image-opts and --object, and the same as a JSON
 * object: names with dots and their values as text. Lists of -o are in option_list.h. */
#ifndef KHO_QEMUIMG_KEYVAL_H
#define KHO_QEMUIMG_KEYVAL_H

#include <glib.h>

/* Pairs of char *, name and value by turns, in the order in which they came. */
typedef GPtrArray QimgKeyval;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QimgKeyval, g_ptr_array_unref)

/* @implied: the name of a first value that comes without one. *fault says what is wrong where it returns
 * NULL. */
QimgKeyval *qimg_keyval_parse(const char *text, const char *implied, char **fault);
/* @text is a JSON object; booleans become "on" and "off". */
QimgKeyval *qimg_keyval_parse_json(const char *text, char **fault);

/* NULL where there is none; the last one counts. */
const char *qimg_keyval_get(const QimgKeyval *pairs, const char *name);

#endif
