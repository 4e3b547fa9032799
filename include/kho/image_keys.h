/* The passphrases of encrypted images: adding and removing them. What an image has is told by kho_image_info.
 */
#ifndef KHO_IMAGE_KEYS_H
#define KHO_IMAGE_KEYS_H

#include <kho/image.h>

#define KHO_IMAGE_ANY_KEY_SLOT (-1)

typedef struct KhoImageKeyChange {
    gboolean add;           /* else remove */
    gint64 slot;            /* KHO_IMAGE_ANY_KEY_SLOT: a free one; or all that old_secret opens */
    const char *new_secret; /* add: which of the source's secrets */
    const char *old_secret; /* remove; with a slot, that it opens it is checked */
    guint64 iter_time_ms;   /* add: as of KhoImageEncryption */
    gboolean force; /* an active slot may be replaced, and the last one removed, which loses the disk */
} KhoImageKeyChange;

/* @source: opened for itself alone; to add, its secrets must open it. KHO_ERROR_INVALID where the change is
 * refused, _DENIED where a passphrase is wrong, _UNSUPPORTED where the image has no LUKS header; nothing was
 * changed then. Durable when it returns TRUE; a crash leaves the old slot or the new one, and at no moment
 * does nothing open the disk that opened it before, but where that was forced. */
KHO_PUBLIC gboolean kho_image_change_keys(const KhoImageSource *source, const KhoImageKeyChange *change,
                                          GError **error);

#endif
