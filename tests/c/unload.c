/* A program that opens the library by name, uses it, and closes it with a thread of the library still
 * about: nothing may be pulled away from under that thread, or from under this one at its end. */
#include <dlfcn.h>
#include <latentblend.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

typedef lb_status (*load_fn)(const char *, const lb_model_options *, const lb_call *, lb_model **,
                             lb_error **);
typedef void (*release_fn)(lb_model *);

static const char *name;

/* ISO C has no way from void * to a function but through memory. */
static void find(void *library, const char *symbol, void *function) {
    void *found = dlsym(library, symbol);
    memcpy(function, &found, sizeof found);
}

static void *once(void *failed) {
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    load_fn load = NULL;
    release_fn release = NULL;
    lb_model *model = NULL;
    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return failed;
    }
    find(library, "lb_model_load", &load);
    find(library, "lb_model_release", &release);
    if (load == NULL || release == NULL || load(NULL, NULL, NULL, &model, NULL) != LB_OK) {
        return failed;
    }
    release(model);
    return dlclose(library) == 0 ? NULL : failed;
}

int main(int count, char **arguments) {
    int round;
    if (count != 2) {
        return 2;
    }
    name = arguments[1];
    for (round = 0; round < 3; round++) {
        pthread_t thread;
        void *result = &round;
        if (pthread_create(&thread, NULL, once, &round) != 0 || pthread_join(thread, &result) != 0 ||
            result != NULL) {
            return 1;
        }
    }
    /* It is closed, and still there. */
    return dlopen(name, RTLD_NOW | RTLD_NOLOAD) != NULL ? 0 : 1;
}
