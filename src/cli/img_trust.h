/* Images that come from outside (--untrusted): from the first byte of one on, kho has few rights left, and
 * what the image names is opened only where it was said. */
#ifndef KHO_CLI_IMG_TRUST_H
#define KHO_CLI_IMG_TRUST_H

#include "cli/verb.h"

#include <kho/image.h>

#define IMG_TRUST_ARGS(type)                                                                                 \
    { CLI_FLAG, "--untrusted", offsetof(type, untrusted), "no",                                              \
      "the image comes from outside: it is read without the right to start programs, to use the "            \
      "network, or to open other files" },                                                                   \
    {                                                                                                        \
        CLI_STRV, "--allow", offsetof(type, allowed), CLI_OPTIONAL,                                          \
            "with --untrusted: a file that it may name all the same, as backing file or data file",          \
            .object = CLI_FILE                                                                               \
    }

typedef struct {
    gboolean untrusted;
    char *const *allowed; /* NULL-terminated, or NULL: none */
    const char *reads[3]; /* the images, NULL-terminated */
    const char *writes;   /* the file to be made or changed, or NULL */
    KhoImageGate gate;    /* set by img_trust_begin */
} ImgTrust;

/* Sets trust->gate to what may be opened of what images name, and adds to *flags what such an image may be.
 * Where they are not trusted, kho gives up all rights that reading them does not need: for good, so that a
 * verb does this last before it opens an image. KHO_ERROR_INVALID where --allow stands alone. */
gboolean img_trust_begin(ImgTrust *trust, KhoImageFlags *flags, GError **error);

/* Whether an image that is not trusted may be copied into such a one at trust->writes: a file of kho's own
 * making, on its own. */
gboolean img_trust_target(const ImgTrust *trust, const KhoImageCreate *create, GError **error);

#endif
