/* kho pool-define, pool-define-as, pool-undefine. */
#include "base/error.h"
#include "cli/output.h"
#include "cli/storage.h"
#include "cli/text.h"

#include <string.h>

typedef struct {
    const char *file;
} DefineArgs;

static const CliArg define_args[] = {
    { CLI_STR, "FILE", offsetof(DefineArgs, file), NULL, "the pool's XML; - reads standard input",
      .object = CLI_FILE },
    { 0 },
};

static gboolean
run_define(CliRun *cli, const void *p, GError **error)
{
    const DefineArgs *a = p;
    g_autoptr(KhoHost) host = cli_host_open(cli, error);
    g_auto(CliText) xml = { 0 };
    g_autofree char *name = NULL;

    if (!host || !cli_text_read(cli, a->file, &xml, error))
        return FALSE;
    if (!kho_pool_define(host, xml.text, xml.len, &name, error))
        return cli_text_blame(&xml, error);
    out_done(cli, "Pool %s defined from %s", name, xml.label);
    return TRUE;
}

const CliVerb verb_pool_define = {
    .name = "pool-define",
    .noun = "pool",
    .summary = "define a pool, or change it, from an XML file",
    .description = "The pool is not started. A pool of the same name and uuid gets the new definition; when "
                   "it is active, that "
                   "holds from its next start.",
    .examples = "kho pool-define vmdisks.xml",
    .args = define_args,
    .args_bytes = sizeof(DefineArgs),
    .run = run_define,
};

typedef struct {
    const char *name, *type, *source_host, *source_path, *source_dev, *source_name, *target, *source_format,
        *uuid;
} DefineAsArgs;

static const CliArg define_as_args[] = {
    { CLI_STR, "NAME", offsetof(DefineAsArgs, name), NULL, "the pool's name" },
    { CLI_STR, "TYPE", offsetof(DefineAsArgs, type), NULL, "dir: a folder" },
    { CLI_STR, "SOURCE-HOST", offsetof(DefineAsArgs, source_host), CLI_OPTIONAL,
      "not for type dir; - for none", .hidden = TRUE },
    { CLI_STR, "SOURCE-PATH", offsetof(DefineAsArgs, source_path), CLI_OPTIONAL,
      "not for type dir; - for none", .hidden = TRUE },
    { CLI_STR, "SOURCE-DEV", offsetof(DefineAsArgs, source_dev), CLI_OPTIONAL, "not for type dir; - for none",
      .hidden = TRUE },
    { CLI_STR, "SOURCE-NAME", offsetof(DefineAsArgs, source_name), CLI_OPTIONAL,
      "not for type dir; - for none", .hidden = TRUE },
    { CLI_STR, "TARGET", offsetof(DefineAsArgs, target), CLI_OPTIONAL, "the folder, as an absolute path",
      .object = CLI_FILE },
    { CLI_STR, "--source-format", offsetof(DefineAsArgs, source_format), CLI_OPTIONAL, "not for type dir",
      .hidden = TRUE },
    { CLI_STR, "--uuid", offsetof(DefineAsArgs, uuid), CLI_OPTIONAL, "its uuid; a random one otherwise" },
    { 0 },
};

/* virsh's placeholder for a positional that is left out. */
static const char *
given(const char *word)
{
    return word && strcmp(word, "-") != 0 ? word : NULL;
}

static gboolean
run_define_as(CliRun *cli, const void *p, GError **error)
{
    const DefineAsArgs *a = p;
    const char *source = given(a->source_host);

    source = source ? source : given(a->source_path);
    source = source ? source : given(a->source_dev);
    source = source ? source : given(a->source_name);
    source = source ? source : given(a->source_format);
    if (source && strcmp(a->type, "dir") == 0)
        return fail(error, KHO_ERROR_INVALID,
                    "pool %s: a pool of type dir has no source, but '%s' is given: --target names "
                    "the folder",
                    a->name, source);
    g_autoptr(KhoHost) host = cli_host_open(cli, error);
    if (!host || !kho_pool_define_as(host, a->name, a->uuid, a->type, given(a->target), error))
        return FALSE;
    out_done(cli, "Pool %s defined", a->name);
    return TRUE;
}

const CliVerb verb_pool_define_as = {
    .name = "pool-define-as",
    .noun = "pool",
    .summary = "define a pool from words",
    .description =
        "The pool is not started, and its folder is not made: pool-start --build does both.\n\n"
        "As with virsh, the source arguments of other types stand between TYPE and TARGET: - leaves one out.",
    .examples = "kho pool-define-as --name vmdisks --type dir --target /vmdisks\n"
                "kho pool-define-as vmdisks dir - - - - /vmdisks",
    .args = define_as_args,
    .args_bytes = sizeof(DefineAsArgs),
    .run = run_define_as,
};

typedef struct {
    const char *pool;
} UndefineArgs;

static const CliArg undefine_args[] = {
    { CLI_STR, "POOL", offsetof(UndefineArgs, pool), NULL, "name or uuid", .object = CLI_POOL },
    { 0 },
};

static gboolean
run_undefine(CliRun *cli, const void *p, GError **error)
{
    const UndefineArgs *a = p;
    g_autoptr(KhoHost) host = cli_host_open(cli, error);

    if (!host || !kho_pool_undefine(host, a->pool, error))
        return FALSE;
    out_done(cli, "Pool %s has been undefined", a->pool);
    return TRUE;
}

const CliVerb verb_pool_undefine = {
    .name = "pool-undefine",
    .noun = "pool",
    .summary = "forget an inactive pool; its folder and volumes stay",
    .examples = "kho pool-undefine vmdisks",
    .args = undefine_args,
    .args_bytes = sizeof(UndefineArgs),
    .run = run_undefine,
};
