/* Answers images by a plan, without Python:
 *
 *     classify PLAN THREADS < images.f32 > logits.f32
 *
 * Images are float32, channels x height x width, one after the other, as many as come; so are the logits that go out. On
 * the error stream: how many images there were, and of each the class with the largest logit.
 */
#include <harp.h>
#include <stdio.h>
#include <stdlib.h>

static int fail(const char *words) {
    fprintf(stderr, "classify: %s\n", words);
    return 1;
}

int main(int count, char **words) {
    if (count != 3) return fail("expected a plan and a number of threads");
    const char *why = NULL;
    harp_network *network = harp_open(words[1], &why);
    if (!network) return fail(why);

    const size_t numbers = (size_t)harp_image_size(network), classes = (size_t)harp_logit_count(network);
    size_t images = 0, room = 1;
    float *pixels = malloc(numbers * sizeof *pixels);
    while (pixels && fread(pixels + images * numbers, sizeof *pixels, numbers, stdin) == numbers)
        if (++images == room) pixels = realloc(pixels, (room *= 2) * numbers * sizeof *pixels);
    float *logits = malloc((images ? images : 1) * classes * sizeof *logits);
    if (!pixels || !logits) return fail("not enough memory");

    if (harp_logits(network, pixels, (int64_t)images, atoi(words[2]), logits))
        return fail("expected at least one whole image, and one thread");
    fprintf(stderr, "%zu images:", images);
    for (size_t i = 0; i < images; i++) {
        size_t best = 0;
        for (size_t c = 1; c < classes; c++)
            if (logits[i * classes + c] > logits[i * classes + best]) best = c;
        fprintf(stderr, " %zu", best);
    }
    fputc('\n', stderr);
    const int written = fwrite(logits, sizeof *logits, images * classes, stdout) == images * classes;

    free(pixels);
    free(logits);
    harp_close(network);
    return written ? 0 : fail("the logits could not be written");
}
