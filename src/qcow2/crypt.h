/* Encrypted images: LUKS (the guest's bytes are read and written through a store that en- and deciphers them
 * by host offset) and QEMU's old AES method (read only: IVs are by guest offset, so the format reads its
 * clusters itself, as it does compressed ones). The LUKS header and its slots live in luks/. Spec:
 * docs/spec/qcow2.md, section 10. */
#ifndef KHO_QCOW2_CRYPT_H
#define KHO_QCOW2_CRYPT_H

#include "luks/slot.h"
#include "qcow2/entry.h"
#include "qcow2/image.h"

/* Sets base.data of a new image, and frees it. */
void qcow2_crypt_attach(Qcow2Image *image);
/* The guest's bytes of an encrypted image lie in @ciphertext, which is its own file, or taken over. */
void qcow2_crypt_set_data(Qcow2Image *image, BlkStore *ciphertext);
void qcow2_crypt_detach(Qcow2Image *image);
/* @view reads with @image's key. */
void qcow2_crypt_borrow(Qcow2Image *view, const Qcow2Image *image);

/* FormatOps.unlock */
gboolean qcow2_unlock(FormatImage *image, const void *passphrase, gsize len, GError **error);

/* Are the bytes of such a subcluster to be read by qcow2_inflate, for their cipher's sake? */
gboolean qcow2_crypt_unpacks(const Qcow2Image *image, Qcow2ClusterKind kind);
/* Guest bytes [guest, guest + len), which lie at @host in a cluster of data. */
gboolean
qcow2_crypt_read_locked(Qcow2Image *image, guint64 guest, guint64 host, void *buf, gsize len, GError **error);

/* A new image's: the extension that will name the LUKS header, and the header itself, in clusters of its own.
 */
void qcow2_crypt_append_extension(GByteArray *extensions, const LuksFormat *format);
gboolean qcow2_crypt_format_locked(Qcow2Image *image, const LuksFormat *format, LuksKey *key, GError **error);

/* *luks is what the LUKS header says, owned by the caller, or NULL where there is none. */
gboolean qcow2_crypt_describe(const Qcow2Image *image, LuksHeader **luks, GError **error);

#endif
