#include "pneumo_edge.h"

#include <math.h>
#include <stdlib.h>

#define PRECISION_BITS 22

void pe_grey(const uint8_t *pixels, size_t count, int channels, uint8_t *grey) {
  for (size_t i = 0; i < count; i++, pixels += channels) {
    grey[i] = channels == 1
                  ? pixels[0]
                  : (uint8_t)((19595u * pixels[0] + 38470u * pixels[1] + 7471u * pixels[2] + 32768u) >> 16);
  }
}

/* The pixels that each pixel of the result is made of, and their weights, as Pillow computes them. */
typedef struct {
  int *start, *count, *weights, most;
} pe_taps;

static void free_taps(pe_taps *taps) {
  free(taps->start);
  free(taps->count);
  free(taps->weights);
}

static int make_taps(int size, int result, pe_taps *taps) {
  const double scale = (double)size / result, support = scale > 1 ? scale : 1;
  taps->most = (int)ceil(support) * 2 + 1;
  taps->start = malloc((size_t)result * sizeof(int));
  taps->count = malloc((size_t)result * sizeof(int));
  taps->weights = calloc((size_t)result * (size_t)taps->most, sizeof(int));
  double *shares = malloc((size_t)taps->most * sizeof(double));
  const int ready = taps->start && taps->count && taps->weights && shares;
  for (int i = 0; ready && i < result; i++) {
    const double centre = (i + 0.5) * scale;
    int first = (int)(centre - support + 0.5), last = (int)(centre + support + 0.5);
    double total = 0;
    first = first < 0 ? 0 : first;
    last = last > size ? size : last;
    for (int k = 0; k < last - first; k++) {
      const double share = 1 - fabs((k + first - centre + 0.5) * (1 / support));
      shares[k] = share > 0 ? share : 0;
      total += shares[k];
    }
    for (int k = 0; k < last - first; k++) {
      taps->weights[i * taps->most + k] = (int)(0.5 + shares[k] / total * (1 << PRECISION_BITS));
    }
    taps->start[i] = first;
    taps->count[i] = last - first;
  }
  free(shares);
  return ready ? 0 : -1;
}

/* Makes lines of the result: `step` is the distance of the pixels of a line, `next` that of the lines. */
static void resize_lines(const uint8_t *from, int step, int next, int lines, const pe_taps *taps, int result, uint8_t *to,
                         int to_step, int to_next) {
  for (int line = 0; line < lines; line++, from += next, to += to_next) {
    for (int i = 0; i < result; i++) {
      const int *weights = taps->weights + i * taps->most;
      const uint8_t *pixel = from + (size_t)taps->start[i] * (size_t)step;
      int32_t sum = 1 << (PRECISION_BITS - 1);
      for (int k = 0; k < taps->count[i]; k++, pixel += step) sum += *pixel * weights[k];
      sum >>= PRECISION_BITS;
      to[(size_t)i * (size_t)to_step] = (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
    }
  }
}

int pe_resize(const uint8_t *grey, int width, int height, uint8_t *resized) {
  pe_taps across = {0}, down = {0};
  uint8_t *narrow = malloc((size_t)height * PE_WIDTH);
  int failed = !narrow || make_taps(width, PE_WIDTH, &across) || make_taps(height, PE_HEIGHT, &down);
  if (!failed) {
    /* First along the rows, then along the columns; the result between them has 8 bits. */
    resize_lines(grey, 1, width, height, &across, PE_WIDTH, narrow, 1, PE_WIDTH);
    resize_lines(narrow, PE_WIDTH, 1, PE_WIDTH, &down, PE_HEIGHT, resized, PE_WIDTH, 1);
  }
  free(narrow);
  free_taps(&across);
  free_taps(&down);
  return failed ? -1 : 0;
}

void pe_tensor(const uint8_t *resized, pe_element *tensor) {
  const size_t pixels = (size_t)PE_WIDTH * PE_HEIGHT;
  for (size_t channel = 0; channel < PE_CHANNELS; channel++) {
    for (size_t i = 0; i < pixels; i++) {
      tensor[PE_CHANNELS_FIRST ? channel * pixels + i : i * PE_CHANNELS + channel] = PE_VALUES[channel][resized[i]];
    }
  }
}

static void to_probabilities(const float *scores, double *probabilities) {
  if (PE_SCORES == 1) { /* of the second of two classes */
    const double value = PE_ARE_LOGITS ? 0.5 * (1 + tanh(scores[0] / 2.0)) : scores[0];
    probabilities[0] = 1 - value;
    probabilities[PE_CLASSES - 1] = value;
    return;
  }
  double most = scores[0], sum = 0;
  for (int i = 1; i < PE_SCORES; i++) most = scores[i] > most ? scores[i] : most;
  for (int i = 0; i < PE_SCORES; i++) sum += probabilities[i] = PE_ARE_LOGITS ? exp(scores[i] - most) : scores[i];
  for (int i = 0; PE_ARE_LOGITS && i < PE_SCORES; i++) probabilities[i] /= sum;
}

void pe_decide(const float *scores, const float *components, pe_answer *answer) {
  double *values = answer->probabilities;
  to_probabilities(scores, values);
  answer->label = -1;
  for (int i = 0; i < PE_CLASSES; i++) {
    if (i != PE_POSITIVE && (answer->label < 0 || values[i] > values[answer->label])) answer->label = i;
  }
  if (PE_POSITIVE >= 0 && values[PE_POSITIVE < 0 ? 0 : PE_POSITIVE] >= PE_THRESHOLD) answer->label = PE_POSITIVE;
  answer->prediction_set = answer->uncertain = -1;
  if (PE_HAS_SETS) {
    answer->prediction_set = 0;
    for (int i = 0; i < PE_CLASSES; i++) {
      /* Of two classes, both bounds are on the probability of the positive one. */
      const double value = values[PE_POSITIVE < 0 ? i : PE_POSITIVE];
      const int within = PE_POSITIVE < 0 || i == PE_POSITIVE ? value >= PE_SET_BOUNDS[i] : value <= PE_SET_BOUNDS[i];
      if (within) answer->prediction_set |= 1L << i;
    }
    answer->uncertain = answer->prediction_set != 1L << answer->label;
  }
  answer->out_of_distribution = -1;
#if PE_COMPONENTS > 0
  answer->distance = 0;
  for (int part = 0, i = 0; part < PE_PARTS; part++) {
    double sum = 0;
    for (const int end = i + PE_PART_SIZES[part]; i < end; i++) {
      const double deviation = (components[i] - PE_MEAN[i]) / PE_SCALE[i];
      sum += deviation * deviation;
    }
    sum = sqrt(sum / PE_PART_SIZES[part]);
    answer->distance = sum > answer->distance ? sum : answer->distance;
  }
  answer->out_of_distribution = answer->distance > PE_LIMIT;
#else
  (void)components;
#endif
}
