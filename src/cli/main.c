#include "base/error.h"
#include "base/num.h"
#include "base/fd.h"

int
main(void)
{
    g_print("kho " KHO_VERSION "\n");
    return 0;
}
