/* The one error channel of kho: a GError of domain KHO_ERROR with a code a caller can act on.
 * Here live the codes and their names; exit statuses live in cli/, wire numbers in rpc/. */
#ifndef KHO_ERROR_H
#define KHO_ERROR_H

#include <glib.h>

#define KHO_PUBLIC __attribute__((visibility("default")))

#define KHO_ERROR (kho_error_quark())

typedef enum {
    KHO_ERROR_NOT_FOUND,   /* the object named does not exist */
    KHO_ERROR_EXISTS,      /* it exists already */
    KHO_ERROR_INVALID,     /* the input is malformed, out of range, or wrong for the object's state */
    KHO_ERROR_UNSUPPORTED, /* well-formed, but this version or this host cannot do it */
    KHO_ERROR_CORRUPT,     /* data on disk contradicts its own format */
    KHO_ERROR_BUSY,        /* another process or job holds it; may succeed later */
    KHO_ERROR_DENIED,      /* rights are missing, or a gate refused */
    KHO_ERROR_NO_SPACE,    /* the disk, a quota or a limit is full */
    KHO_ERROR_IO,          /* the system reported a failure of a device or file */
    KHO_ERROR_TIMEOUT,     /* a deadline passed */
    KHO_ERROR_CANCELLED,   /* the user or caller cancelled; the old state holds */
    KHO_ERROR_INTERNAL,    /* a broken promise of our own */
    KHO_ERROR_N_CODES      /* not a code: their count, for tables and their tests */
} KhoErrorCode;

KHO_PUBLIC GQuark kho_error_quark(void);

/* The code's name as JSON and logs show it: "not-found", "exists", ... ; never NULL. */
KHO_PUBLIC const char *kho_error_code_name(KhoErrorCode code);

#endif
