/* Listing machines, and what is told of one: status summary, memory, disks, consoles. */
#include "store/list.h"
#include "base/error.h"
#include "host/machine.h"
#include "host/running.h"
#include "host/saved.h"
#include "store/publish.h"
#include "vm/definition.h"

#include <string.h>

void
kho_domain_entry_free(KhoDomainEntry *entry)
{
    if (!entry)
        return;
    g_free(entry->name);
    g_free(entry->uuid);
    g_free(entry->title);
    kho_domain_status_clear(&entry->status);
    g_free(entry);
}

static void
entry_free(gpointer entry)
{
    kho_domain_entry_free(entry);
}

/* Those that run come first, by id. */
static gint
compare_entries(gconstpointer a, gconstpointer b)
{
    const KhoDomainEntry *left = *(KhoDomainEntry *const *) a, *right = *(KhoDomainEntry *const *) b;
    gboolean left_runs = left->status.id >= 0, right_runs = right->status.id >= 0;

    if (left_runs != right_runs)
        return left_runs ? -1 : 1;
    if (left_runs && left->status.id != right->status.id)
        return left->status.id < right->status.id ? -1 : 1;
    return strcmp(left->name, right->name);
}

/* A damaged definition has no uuid and no title here; looking at that machine says what is wrong. */
static void
fill_details(const StoreTree *tree, KhoDomainListFlags flags, KhoDomainEntry *entry)
{
    g_autoptr(GError) why = NULL;

    if (!(flags & KHO_DOMAIN_LIST_DETAILS)) {
        entry->damaged = vm_definition_looks_damaged(tree, entry->name);
        return;
    }
    g_autoptr(ModelDomain) model = vm_definition(tree, entry->name, &why);
    entry->damaged = g_error_matches(why, KHO_ERROR, KHO_ERROR_CORRUPT);
    entry->uuid = model ? g_strdup(model->uuid) : running_uuid(tree, entry->name);
    entry->title = model ? g_strdup(model->title) : NULL;
}

/* A name, and where it was found. */
typedef struct {
    const char *name;
    gboolean defined, in_run; /* has a definition; has a run folder */
} ListName;

/* The status of one machine; what cannot be told (another user's) must not hide the others. */
static void
fill_status(KhoHost *host, const ListName *at, gboolean details, KhoDomainStatus *status)
{
    g_autoptr(GError) why = NULL;

    if (!at->in_run)
        running_status_off(host->tree, at->name, details, status);
    else if (!running_status(host, at->name, status, &why))
        *status =
            (KhoDomainStatus){ .state = KHO_DOMAIN_NOSTATE, .reason = g_strdup(why->message), .id = -1 };
}

/* Adds the machine where @flags want it. One that ends between two looks is told as it was at the second. */
static void
add_entry(KhoHost *host, GPtrArray *entries, const ListName *at, KhoDomainListFlags flags)
{
    KhoDomainEntry *entry = g_new0(KhoDomainEntry, 1);
    g_autofree char *mark = store_path_domain_autostart(host->tree, at->name);

    g_ptr_array_add(entries, entry);
    entry->name = g_strdup(at->name);
    entry->persistent = at->defined;
    entry->autostart = at->defined && store_autostart_get(mark);
    entry->managed_save = saved_exists(host->tree, at->name);
    fill_status(host, at, (flags & KHO_DOMAIN_LIST_DETAILS) != 0, &entry->status);
    gboolean active = machine_state_is_active(entry->status.state);
    if (!(flags & (active ? KHO_DOMAIN_LIST_ACTIVE : KHO_DOMAIN_LIST_INACTIVE)) || (!active && !at->defined))
        g_ptr_array_remove_index(entries, entries->len - 1);
    else if (flags & (KHO_DOMAIN_LIST_DETAILS | KHO_DOMAIN_LIST_DAMAGE))
        fill_details(host->tree, flags, entry);
}

GPtrArray *
kho_domain_list(KhoHost *host, KhoDomainListFlags flags, GError **error)
{
    g_autoptr(GPtrArray) defined = store_list_domains(host->tree, error);
    g_autoptr(GPtrArray) run = defined ? store_list_domains_run(host->tree, error) : NULL;
    g_autoptr(GPtrArray) entries = g_ptr_array_new_with_free_func(entry_free);

    if (!run)
        return NULL;
    /* both lists are sorted: one walk merges them */
    for (guint d = 0, r = 0; d < defined->len || r < run->len;) {
        const char *of_etc = d < defined->len ? defined->pdata[d] : NULL;
        const char *of_run = r < run->len ? run->pdata[r] : NULL;
        int order = !of_etc ? 1 : !of_run ? -1 : strcmp(of_etc, of_run);
        ListName at = { .name = order <= 0 ? of_etc : of_run, .defined = order <= 0, .in_run = order >= 0 };
        if (at.in_run || flags & KHO_DOMAIN_LIST_INACTIVE)
            add_entry(host, entries, &at, flags);
        d += at.defined;
        r += at.in_run;
    }
    g_ptr_array_sort(entries, compare_entries);
    return g_steal_pointer(&entries);
}

/* The machine as it runs, or its definition; *status (may be NULL) is filled in either way. */
static ModelDomain *
current_model(KhoDomain *domain, gboolean inactive, KhoDomainStatus *status, GError **error)
{
    g_auto(KhoDomainStatus) seen = { 0 };

    if (!kho_domain_status(domain, &seen, error))
        return NULL;
    gboolean live = !inactive && machine_state_is_active(seen.state);
    gsize len;
    g_autofree char *xml =
        live ? running_xml_or_definition(domain->host->tree, domain->name, &len, error) : NULL;
    if (live && !xml)
        return NULL;
    ModelDomain *model =
        live ? model_domain_parse(xml, len, error) : vm_definition(domain->host->tree, domain->name, error);
    if (model && status) {
        *status = seen;
        seen = (KhoDomainStatus){ 0 };
    }
    return model;
}

gboolean
kho_domain_info(KhoDomain *domain, KhoDomainInfo *info, GError **error)
{
    KhoDomainInfo got = { 0 };
    g_autoptr(ModelDomain) model = current_model(domain, FALSE, &got.status, error);
    g_autofree char *mark = store_path_domain_autostart(domain->host->tree, domain->name);

    if (!model)
        return FALSE;
    got.os_type = g_strdup(model->os_type ? model->os_type : "hvm");
    got.max_memory_kib = model->memory_kib;
    got.memory_kib = model->current_memory_kib ? model->current_memory_kib : model->memory_kib;
    got.vcpus = (guint) (model->current_vcpus != MODEL_UNSET ? model->current_vcpus : MAX(model->vcpus, 1));
    got.persistent = kho_domain_is_persistent(domain);
    got.autostart = got.persistent && store_autostart_get(mark);
    got.managed_save = saved_exists(domain->host->tree, domain->name);
    got.cpu_time_ns = got.status.pid ? running_cpu_time_ns(got.status.pid) : 0;
    *info = got;
    return TRUE;
}

void
kho_domain_info_clear(KhoDomainInfo *info)
{
    kho_domain_status_clear(&info->status);
    g_clear_pointer(&info->os_type, g_free);
}

static void
disk_free(gpointer pointer)
{
    KhoDomainDisk *disk = pointer;
    g_free(disk->type);
    g_free(disk->device);
    g_free(disk->target);
    g_free(disk->source);
    g_free(disk->format);
    g_free(disk);
}

GPtrArray *
kho_domain_disks(KhoDomain *domain, gboolean inactive, GError **error)
{
    g_autoptr(ModelDomain) model = current_model(domain, inactive, NULL, error);

    if (!model)
        return NULL;
    GPtrArray *disks = g_ptr_array_new_with_free_func(disk_free);
    for (guint i = 0; i < model->disks->len; i++) {
        const ModelDisk *from = model->disks->pdata[i];
        const char *type = model_source_type_word(from->type), *device = model_disk_device_word(from->device);
        KhoDomainDisk *disk = g_new0(KhoDomainDisk, 1);
        *disk = (KhoDomainDisk){ .type = g_strdup(type ? type : "file"),
                                 .device = g_strdup(device ? device : "disk"),
                                 .target = g_strdup(from->target),
                                 .source = g_strdup(from->source_file),
                                 .format = g_strdup(from->format),
                                 .read_only = from->readonly || from->device == MODEL_DISK_CDROM };
        g_ptr_array_add(disks, disk);
    }
    return disks;
}

/* The console or serial device with alias @device, or the first console; consoles of pty kind only. */
static const ModelChardev *
find_console(const ModelDomain *model, const char *device)
{
    GPtrArray *lists[] = { model->consoles, model->serials };

    for (gsize l = 0; l < G_N_ELEMENTS(lists); l++)
        for (guint i = 0; i < lists[l]->len; i++) {
            const ModelChardev *chardev = lists[l]->pdata[i];
            if (!device || g_strcmp0(chardev->alias, device) == 0)
                return chardev;
        }
    return NULL;
}

/* *alias: what the console is claimed by; the first console mirrors the first serial device. */
static char *
console_path(KhoDomain *domain, const char *device, char **alias, GError **error)
{
    g_auto(KhoDomainStatus) status = { 0 };
    gsize len;

    if (!kho_domain_status(domain, &status, error)
        || !machine_state_admits(MACHINE_CONSOLE, domain->name, status.state, error))
        return NULL;
    g_autofree char *xml = running_xml(domain->host->tree, domain->name, &len, error);
    g_autoptr(ModelDomain) model = xml ? model_domain_parse(xml, len, error) : NULL;
    if (!model)
        return NULL;
    const ModelChardev *chardev = find_console(model, device);
    if (!chardev)
        fail(error, KHO_ERROR_NOT_FOUND, "machine '%s' has no console%s%s", domain->name, device ? " " : "",
             device ? device : "");
    else if (chardev->type != MODEL_CHARDEV_PTY || !chardev->source_path)
        fail(error, KHO_ERROR_UNSUPPORTED,
             "the console of machine '%s' is no pty: only those can be connected to", domain->name);
    else {
        *alias = g_path_get_basename(chardev->source_path);
        return g_strdup(chardev->source_path);
    }
    return NULL;
}

char *
kho_domain_console_path(KhoDomain *domain, const char *device, GError **error)
{
    g_autofree char *alias = NULL;
    return console_path(domain, device, &alias, error);
}

struct KhoConsoleClaim {
    StoreLock *lock;
};

KhoConsoleClaim *
kho_domain_console_claim(KhoDomain *domain, const char *device, GError **error)
{
    const StoreWait at_once = { 0 };
    g_autofree char *alias = NULL;
    g_autofree char *path = console_path(domain, device, &alias, error);

    if (!path)
        return NULL;
    g_autofree char *key = g_strdup_printf("%s.console-%s", domain->uuid, alias);
    g_autofree char *object = g_strdup_printf("the console of machine '%s'", domain->name);
    g_autoptr(GError) why = NULL;
    g_autoptr(StoreLock) lock =
        store_lock_take(domain->host->tree, STORE_LOCK_DOMAIN, key, object, &at_once, &why);
    if (lock) {
        KhoConsoleClaim *claim = g_new(KhoConsoleClaim, 1);
        claim->lock = g_steal_pointer(&lock);
        return claim;
    }
    if (g_error_matches(why, KHO_ERROR, KHO_ERROR_BUSY)) {
        g_autofree char *holder = store_lock_holder(domain->host->tree, STORE_LOCK_DOMAIN, key);
        fail(error, KHO_ERROR_BUSY, "%s is connected to by %s: end that first", object, holder);
    } else {
        g_propagate_error(error, g_steal_pointer(&why));
    }
    return NULL;
}

void
kho_console_release(KhoConsoleClaim *claim)
{
    if (!claim)
        return;
    store_lock_release(claim->lock);
    g_free(claim);
}
