/* Releases, purges and cancels from other threads while calls run: each call ends with its frame or as
 * cancelled, and no thread sees more than its own. */
#include "check.h"

#include <pthread.h>

enum { THREADS = 4, ROUNDS = 3 };

typedef struct {
    lb_session *session;
    lb_cancel *cancel;
    unsigned char pixels[FRAME];
    int started;
    lb_status status;
} work;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

/* The first report tells the other thread that the call holds what it needs. */
static int32_t tell(void *user, const lb_progress *progress) {
    work *mine = (work *)user;
    (void)progress;
    pthread_mutex_lock(&lock);
    mine->started = 1;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    return 0;
}

static void *render(void *user) {
    work *mine = (work *)user;
    const lb_image target = image(mine->pixels);
    lb_call call;
    memset(&call, 0, sizeof call);
    call.struct_size = sizeof call;
    call.cancel = mine->cancel;
    call.progress = tell;
    call.user = mine;
    mine->status = lb_session_render(mine->session, 0.5, &target, &call, NULL);
    tell(user, NULL);
    return NULL;
}

static pthread_t begin(work *mine, lb_session *session, lb_cancel *cancel) {
    pthread_t thread;
    memset(mine, 0, sizeof *mine);
    mine->session = session;
    mine->cancel = cancel;
    CHECK(pthread_create(&thread, NULL, render, mine) == 0);
    return thread;
}

static void running(const work *mine) {
    pthread_mutex_lock(&lock);
    while (!mine->started) {
        pthread_cond_wait(&changed, &lock);
    }
    pthread_mutex_unlock(&lock);
}

static unsigned char wanted[FRAME];
static work works[THREADS];

int main(void) {
    lb_model *model = NULL;
    pthread_t threads[THREADS];
    int round, index;
    GOOD(lb_model_load(NULL, NULL, NULL, &model, &error));
    {
        lb_session *session = transition(model);
        const lb_image target = image(wanted);
        GOOD(lb_session_render(session, 0.5, &target, NULL, &error));
        lb_session_release(session);
    }
    /* The only reference of the session goes, and in the last round the model's, while calls run. */
    for (round = 0; round < ROUNDS; round++) {
        lb_session *session = transition(model);
        for (index = 0; index < THREADS; index++) {
            threads[index] = begin(&works[index], session, NULL);
        }
        for (index = 0; index < THREADS; index++) {
            running(&works[index]);
        }
        lb_session_purge(session);
        lb_session_release(session);
        if (round == ROUNDS - 1) {
            lb_model_release(model);
        }
        for (index = 0; index < THREADS; index++) {
            CHECK(pthread_join(threads[index], NULL) == 0);
            CHECK(works[index].status == LB_OK);
            CHECK(memcmp(works[index].pixels, wanted, FRAME) == 0);
        }
    }
    /* The token, too, goes while the call that it stops runs. */
    GOOD(lb_model_load(NULL, NULL, NULL, &model, &error));
    for (round = 0; round < ROUNDS; round++) {
        lb_session *session = transition(model);
        lb_cancel *cancel = lb_cancel_new();
        threads[0] = begin(&works[0], session, cancel);
        running(&works[0]);
        lb_cancel_request(cancel);
        lb_cancel_release(cancel);
        CHECK(pthread_join(threads[0], NULL) == 0);
        CHECK(works[0].status == LB_ERROR_CANCELLED || works[0].status == LB_OK);
        if (works[0].status == LB_ERROR_CANCELLED) {
            CHECK(works[0].pixels[0] == 0 && works[0].pixels[FRAME - 1] == 0);
        }
        /* The others' calls are not stopped, and the session goes on. */
        threads[0] = begin(&works[0], session, NULL);
        CHECK(pthread_join(threads[0], NULL) == 0);
        CHECK(works[0].status == LB_OK && memcmp(works[0].pixels, wanted, FRAME) == 0);
        lb_session_release(session);
    }
    lb_model_release(model);
    return finish();
}
