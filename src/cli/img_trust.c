#include "cli/img_trust.h"

#include "base/error.h"
#include "base/landlock.h"
#include "base/seccomp.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>

/* Libraries that are loaded when they are needed, and what those read. */
static const char *const system_files[] = { "/lib",       "/lib64",           "/usr/lib",
                                            "/usr/lib64", "/etc/ld.so.cache", "/etc/gcrypt",
                                            "/proc/self", "/proc/sys",        NULL };

static gboolean
admit(const char *path, const char *referrer, gpointer data, GError **error)
{
    const ImgTrust *trust = data;
    GStatBuf wanted, one;

    for (char *const *at = trust->allowed; at && *at; at++)
        if (g_stat(*at, &one) == 0 && g_stat(path, &wanted) == 0 && one.st_dev == wanted.st_dev
            && one.st_ino == wanted.st_ino)
            return TRUE;
    return fail(error, KHO_ERROR_DENIED,
                "%s is not trusted and names %s: that is opened only where --allow %s is given", referrer,
                path, path);
}

static gboolean
may_read_all(const Landlock *landlock, const char *const *paths, GError **error)
{
    for (; paths && *paths; paths++)
        if (!landlock_may_read(landlock, *paths, error))
            return FALSE;
    return TRUE;
}

/* A kernel without Landlock leaves the system calls refused, and the gate. */
static gboolean
restrict_files(const ImgTrust *trust, GError **error)
{
    g_auto(Landlock) landlock = { .ruleset = -1 };
    g_autoptr(GError) why = NULL;

    if (!landlock_begin(&landlock, &why)) {
        if (g_error_matches(why, KHO_ERROR, KHO_ERROR_UNSUPPORTED))
            return TRUE;
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    gboolean in_place = trust->writes && strcmp(trust->writes, trust->reads[0]) == 0;
    g_autofree char *folder = trust->writes ? g_path_get_dirname(trust->writes) : NULL;

    return may_read_all(&landlock, system_files, error)
           && may_read_all(&landlock, (const char *const *) trust->allowed, error)
           && may_read_all(&landlock, trust->reads, error)
           && (!folder || landlock_may_write(&landlock, in_place ? trust->writes : folder, error))
           && landlock_end(&landlock, error);
}

static gboolean
restrict_calls(GError **error)
{
    SeccompFilter filter;

    seccomp_begin(&filter);
    seccomp_keep_in(&filter);
    return seccomp_end(&filter, 0) == 0 || fail_errno(error, errno, "cannot give up rights");
}

gboolean
img_trust_target(const ImgTrust *trust, const KhoImageCreate *create, GError **error)
{
    if (!trust->untrusted)
        return TRUE;
    if (create->backing_file)
        return fail(error, KHO_ERROR_INVALID, "what is --untrusted is not compared with a backing file");
    if (kho_image_is_remote(trust->writes)
        || (strcmp(create->format, "qcow2") != 0 && strcmp(create->format, "raw") != 0))
        return fail(error, KHO_ERROR_UNSUPPORTED,
                    "what is --untrusted is copied into a qcow2 or raw file: copy that on then");
    return TRUE;
}

gboolean
img_trust_begin(ImgTrust *trust, KhoImageFlags *flags, GError **error)
{
    trust->gate = kho_image_gate_open;
    if (!trust->untrusted)
        return !trust->allowed || !*trust->allowed
               || fail(error, KHO_ERROR_INVALID, "--allow says what an image may name that is --untrusted");
    trust->gate = (KhoImageGate){ .admit = admit, .data = trust };
    *flags |= KHO_IMAGE_LOCAL | KHO_IMAGE_VOLUMES;
    return restrict_calls(error) && restrict_files(trust, error);
}
