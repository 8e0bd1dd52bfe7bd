/* Faults on purpose: a tool that doesn't see them would prove nothing about the other programs. */
#include <stdlib.h>
#include <string.h>

int main(int count, char **arguments) {
    /* Volatile twice, so that no compiler sees that nobody looks at the faults. */
    volatile char *volatile memory = (volatile char *)malloc(16);
    if (count == 2 && strcmp(arguments[1], "leak") == 0) {
        memory = NULL;
    } else if (count == 2 && strcmp(arguments[1], "overflow") == 0) {
        memory[16] = 1;
    }
    free((void *)memory);
    return 0;
}
