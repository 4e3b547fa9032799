/* What -o takes for each format, and what becomes of it: QEMU's names, defaults and messages on one side, a
 * KhoImageCreate on the other. Options that QEMU has and kho has not (yet) are known by name and refused. */
#ifndef KHO_QEMUIMG_CREATE_OPTIONS_H
#define KHO_QEMUIMG_CREATE_OPTIONS_H

#include "qemuimg/option_list.h"

#include <kho/image.h>

/* The options of a format; with those of the file below it where @with_file. FALSE where kho makes no such
 * images, which has been said about @subject. */
gboolean
qimg_create_options_init(QimgOptions *options, const char *format, gboolean with_file, const char *subject);

/* Prints them as `-o help` does; @path is where an image would be made, or NULL. */
gboolean qimg_create_options_help(const char *format, const char *path);

/* Everything but the size and the backing file's existence: FALSE where a value is wrong or two contradict
 * each other, which has been said about @subject. Texts in @create belong to @options. */
gboolean qimg_create_options_apply(const QimgOptions *options, const char *subject, KhoImageCreate *create);

/* What counts for how long the file would be; the rest is passed over, as QEMU does. */
gboolean qimg_create_options_measure(const QimgOptions *options, KhoImageCreate *create);

/* Is the data file that @create names for a new image at @path to be found by QEMU as well, which takes a
 * relative name from where it runs? FALSE has been said about @subject. */
gboolean
qimg_create_options_check_folder(const KhoImageCreate *create, const char *path, const char *subject);

/* "off", "metadata", "falloc", "full". */
gboolean qimg_prealloc_parse(const char *text, KhoPrealloc *prealloc);

#endif
