/* A program that knows nothing but an installed copy. Its one argument is the version that it wants. */
#include <latentblend.h>
#include <stdio.h>
#include <string.h>

int main(int count, char **arguments) {
    lb_error *error = NULL;
    const lb_status status = lb_model_load("no/such/place", NULL, NULL, NULL, &error);
    printf("%s: %s\n", lb_status_name(status), lb_error_message(error));
    lb_error_free(error);
    return count == 2 && strcmp(arguments[1], lb_version_string()) == 0 &&
                   lb_abi_version() == LB_ABI_VERSION
               ? 0
               : 1;
}
