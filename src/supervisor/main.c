#include "base/error.h"
#include "base/fd.h"
#include "base/num.h"

int
main(void)
{
    g_print("kho " KHO_VERSION "\n");
    return 0;
}
