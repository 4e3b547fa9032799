/* `--plan` of the verbs on images that write much: what they would cost, in place of doing it. The figures
 * are kho/image_plan.h's. */
#ifndef KHO_CLI_IMG_PLAN_H
#define KHO_CLI_IMG_PLAN_H

#include "cli/verb.h"

#include <kho/image_plan.h>

#define IMG_PLAN_ARG(type)                                                                                   \
    {                                                                                                        \
        CLI_FLAG, "--plan", offsetof(type, plan), "no",                                                      \
            "change nothing: tell what is read and written, how much space that takes, whether it fits, "    \
            "and what is lost"                                                                               \
    }

/* --json is the plan's: KHO_ERROR_INVALID where it stands without. */
gboolean img_plan_check(const CliRun *cli, gboolean plan, GError **error);

/* Prints the plan of a verb that returned @done, also where that says that it cannot fit; returns @done. */
gboolean img_plan_tell(const CliRun *cli, const KhoImagePlan *plan, gboolean done);

#endif
