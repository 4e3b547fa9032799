/* How info tells of an image's encryption, in qemu-img's words. The rest of it is image_info.h's. */
#ifndef KHO_QEMUIMG_ENCRYPTION_INFO_H
#define KHO_QEMUIMG_ENCRYPTION_INFO_H

#include <jansson.h>
#include <kho/crypt.h>

/* @alone: of a luks volume, which is nothing else; otherwise a member of what is told of a qcow2 image. */
json_t *qimg_encryption_json(const KhoImageEncryptionInfo *info, gboolean alone);
/* Below "Format specific information". */
void qimg_encryption_append(GString *text, const KhoImageEncryptionInfo *info, gboolean alone);

#endif
