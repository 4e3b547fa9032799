/* What amend may do to the key slots of an encrypted image: the words "state", "new-secret", "old-secret",
 * "keyslot" and "iter-time", of luks as they are and of qcow2 behind "encrypt.". */
#ifndef KHO_QEMUIMG_AMEND_KEYS_H
#define KHO_QEMUIMG_AMEND_KEYS_H

#include "qemuimg/option_list.h"
#include "qemuimg/source.h"

/* Is any of them given? @prefix: "encrypt." or "". */
gboolean qimg_amend_has_keys(const QimgOptions *options, const char *prefix);

/* Does what they say. FALSE where it could not be done, which has been said. */
gboolean
qimg_amend_keys(const QimgSource *source, const QimgOptions *options, const char *prefix, gboolean force);

#endif
