/* kho backup-verify. */
#include "base/error.h"
#include "base/json.h"
#include "cli/backup.h"
#include "cli/output.h"

typedef struct {
    const char *store, *name, *point;
} VerifyArgs;

static const CliArg verify_args[] = {
    CLI_STORE_ARG(VerifyArgs),
    { CLI_STR, "NAME", offsetof(VerifyArgs, name), CLI_OPTIONAL, "only the backups of that machine" },
    { CLI_STR, "POINT", offsetof(VerifyArgs, point), CLI_OPTIONAL, "only that one" },
    { 0 },
};

static json_t *
json_of_file(const KhoBackupFile *file)
{
    json_t *object = json_object();

    json_set_string(object, "file", file->file);
    json_set_string(object, "expected-sha256", file->expected);
    json_object_set_new(object, "sha256", json_null());
    json_set_string(object, "sha256", file->got);
    json_object_set_new(object, "problem", json_null());
    json_set_string(object, "problem", file->problem);
    return object;
}

static json_t *
json_of_verdict(const KhoBackupVerdict *verdict)
{
    json_t *object = json_object(), *files = json_array();

    for (guint i = 0; i < verdict->files->len; i++)
        json_array_append_new(files, json_of_file(verdict->files->pdata[i]));
    json_set_string(object, "machine", verdict->point->machine);
    json_set_string(object, "point", verdict->point->point);
    json_set_string(object, "path", verdict->point->path);
    json_object_set_new(object, "good", json_boolean(verdict->damaged == 0));
    json_object_set_new(object, "problem", json_null());
    json_set_string(object, "problem", verdict->point->problem);
    json_object_set_new(object, "files", files);
    return object;
}

/* One line a file, as sha256sum -c has them. */
static void
print_verdict(const KhoBackupVerdict *verdict)
{
    const KhoBackupPoint *point = verdict->point;

    if (point->problem)
        out_print("%s\n", point->problem);
    else
        out_print("%s/manifest.json: ok\n", point->path);
    for (guint i = 0; i < verdict->files->len; i++) {
        const KhoBackupFile *file = verdict->files->pdata[i];
        if (file->problem)
            out_print("%s\n", file->problem);
        else
            out_print("%s/%s: ok\n", point->path, file->file);
    }
}

/* What is wrong with the first bad one. */
static const char *
first_problem(const KhoBackupVerdict *verdict)
{
    for (guint i = 0; i < verdict->files->len; i++) {
        const KhoBackupFile *file = verdict->files->pdata[i];
        if (file->problem)
            return file->problem;
    }
    return verdict->point->problem;
}

static gboolean
conclude(const GPtrArray *verdicts, GError **error)
{
    const KhoBackupVerdict *first = NULL;
    guint bad = 0;

    for (guint i = 0; i < verdicts->len; i++) {
        const KhoBackupVerdict *verdict = verdicts->pdata[i];
        bad += verdict->damaged > 0;
        if (verdict->damaged > 0 && !first)
            first = verdict;
    }
    if (!first)
        return TRUE;
    KhoErrorCode code = first->point->problem ? first->point->problem_code : KHO_ERROR_CORRUPT;
    return fail(error, code, "%u of %u backups cannot be relied on: %s", bad, verdicts->len,
                first_problem(first));
}

static gboolean
run_verify(CliRun *cli, const void *p, GError **error)
{
    const VerifyArgs *a = p;
    g_autoptr(GPtrArray) verdicts = kho_backup_verify(a->store, a->name, a->point, cli->job, error);
    json_auto json_t *list = json_array();

    if (!verdicts)
        return FALSE;
    for (guint i = 0; i < verdicts->len; i++) {
        if (cli->json)
            json_array_append_new(list, json_of_verdict(verdicts->pdata[i]));
        else if (!cli->quiet)
            print_verdict(verdicts->pdata[i]);
    }
    if (cli->json)
        out_json(json_steal(&list));
    return conclude(verdicts, error);
}

const CliVerb verb_backup_verify = {
    .name = "backup-verify",
    .noun = "backup",
    .summary = "read backups and compare every file with the manifest",
    .description = "It ends with status 7 where anything is not as it was written: a bit, a missing file.",
    .examples = "kho backup-verify /mnt/backups\n"
                "kho backup-verify /mnt/backups web1 2026-11-21T07-00-00Z",
    .args = verify_args,
    .args_bytes = sizeof(VerifyArgs),
    .json = TRUE,
    .run = run_verify,
};
