/* What a caller asks for (kho/crypt.h) in the words of luks/. */
#ifndef KHO_IMAGE_ENCRYPTION_H
#define KHO_IMAGE_ENCRYPTION_H

#include "luks/slot.h"

#include <kho/image.h>

/* How the new image is to be encrypted; the passphrase is borrowed from options->secrets. KHO_ERROR_INVALID,
 * _UNSUPPORTED or _NOT_FOUND (the secret). */
gboolean encryption_read(const KhoImageCreate *options, LuksFormat *format, GError **error);

/* The ciphers alone: the passphrase is not looked for. */
gboolean encryption_read_spec(const KhoImageCreate *options, LuksSpec *spec, GError **error);

#endif
