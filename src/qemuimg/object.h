/* What --object makes: secrets, kept for the whole run and named by their ids. */
#ifndef KHO_QEMUIMG_OBJECT_H
#define KHO_QEMUIMG_OBJECT_H

#include <kho/secret.h>

/* "secret,id=ID,data=TEXT" or "secret,id=ID,file=PATH", with ",format=raw|base64", or keyid and iv of one
 * that is enciphered; FALSE where it is wrong, or another kind of object, which has been said. */
gboolean qimg_object_add(const char *text);

/* Those that there are; NULL where there are none. */
const KhoSecrets *qimg_object_secrets(void);

#endif
