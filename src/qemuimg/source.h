/* The images that a command line names, opened with QEMU's messages: a path, "file:PATH", "json:{...}", or
 * the options of --image-opts. What can be opened at all is image/'s business. */
#ifndef KHO_QEMUIMG_SOURCE_H
#define KHO_QEMUIMG_SOURCE_H

#include "qemuimg/keyval.h"

#include <kho/image.h>

typedef struct {
    char *name; /* as it is told */
    char *path;
    char *format;         /* NULL: it is probed */
    char *key_secret;     /* of --image-opts: which secret opens it; NULL: none was named */
    KhoImageBelow *below; /* of --image-opts: its backing files */
    guint n_below;
    QimgKeyval *options; /* holds what @below points to */
} QimgSource;

/* @format: -f, or NULL. FALSE where @name cannot name an image of kho's, which has been said. */
gboolean qimg_source_read(const char *name, const char *format, gboolean image_opts, QimgSource *source);
void qimg_source_clear(QimgSource *source);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(QimgSource, qimg_source_clear)

/* The same for the engine, with the secrets that the command line gave; valid as long as @source. */
KhoImageSource qimg_source_image(const QimgSource *source, KhoImageFlags flags, const KhoJob *job);

/* What its headers say, wherever it lies: without a word to the user. */
gboolean qimg_source_info(const QimgSource *source, KhoImageInfo *info, GError **error);

/* NULL where it cannot be opened, which has been said. */
KhoImage *qimg_source_open(const QimgSource *source, KhoImageFlags flags);
/* The two steps in one. */
KhoImage *qimg_open(const char *name, const char *format, gboolean image_opts, KhoImageFlags flags);

/* Is there such a format in QEMU, whether kho has it or not? */
gboolean qimg_format_exists(const char *format);

/* What QEMU would say where kho_image_open failed with @error; free with g_free. */
char *qimg_open_fault(const char *path, const char *format, KhoImageFlags flags, const GError *error);

/* What QEMU would say where kho could not make the image at @path, of @format; free with g_free. */
char *qimg_create_fault(const char *path, const KhoImageCreate *create, const GError *error);

/* What follows the object's name in a message of kho's: "a.img: it is too large" becomes "it is too large".
 */
const char *qimg_reason(const GError *error, const char *path);

/* The first bitmap of the image at @path that is inconsistent, or with @any the first one; NULL where there
 * is none. Free with g_free. */
char *qimg_find_bitmap(const QimgSource *source, gboolean any);

/* Before a raw image is written that nobody said was raw: it may be a guest's doing that it looks like
 * another. */
void qimg_warn_if_guessed(const QimgSource *source, const KhoImage *image);

/* Lets @image read as the internal snapshot that @which says: "snapshot.id=1,snapshot.name=x", or an id, or
 * else a name. FALSE where there is none, which has been said. */
gboolean qimg_show_snapshot(KhoImage *image, const char *which);

/* For QimgOption.take: is the value of -t, or of -T, a cache mode? All of them are taken and none changes
 * what is read or written: kho's copies have an order of their own and are flushed at their end. */
gboolean qimg_take_cache(const char *mode);
gboolean qimg_take_source_cache(const char *mode);
/* The same without a word. */
gboolean qimg_cache_is_known(const char *mode);

#endif
