/* How `img info` tells of an image's encryption, in qemu-img's words. */
#ifndef KHO_CLI_IMG_ENCRYPTION_H
#define KHO_CLI_IMG_ENCRYPTION_H

#include <jansson.h>
#include <kho/crypt.h>

json_t *img_encryption_to_json(const KhoImageEncryptionInfo *info);
/* Below "Format specific information". */
void img_encryption_print(const KhoImageEncryptionInfo *info);

#endif
