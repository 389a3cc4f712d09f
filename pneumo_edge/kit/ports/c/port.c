/* A port in C: classifies the decoded pixels of the test vectors, and prints what `pneumo-edge kit check` grades.

     ./port KIT > results.json

   It starts from decoded pixels, because C has no decoder of its own; libjpeg and libpng are the usual ones. The engine
   is a file beside this one (engine.h); without -DPE_ENGINE there is none, and outputs are not reported. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pneumo_edge.h"
#include "vectors.h"
#ifdef PE_ENGINE
#include "engine.h"
#endif

#define MOST_PATH 4096

static void die(const char *what) {
  fprintf(stderr, "error: %s\n", what);
  exit(1);
}

static void *allocate(size_t size) {
  void *memory = malloc(size);
  if (!memory) die("there is no memory");
  return memory;
}

static uint8_t *read_netpbm(const char *path, int *width, int *height, int *channels) {
  FILE *file = fopen(path, "rb");
  char kind = 0;
  if (!file || fscanf(file, "P%c %d %d 255", &kind, width, height) != 3 || fgetc(file) != '\n') die(path);
  *channels = kind == '6' ? 3 : 1;
  const size_t size = (size_t)*width * (size_t)*height * (size_t)*channels;
  uint8_t *pixels = allocate(size);
  if (fread(pixels, 1, size, file) != size) die(path);
  fclose(file);
  return pixels;
}

static void print_base64(const void *data, size_t size) {
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const uint8_t *bytes = data;
  putchar('"');
  for (size_t i = 0; i < size; i += 3) {
    const uint32_t second = i + 1 < size ? bytes[i + 1] : 0, third = i + 2 < size ? bytes[i + 2] : 0;
    const uint32_t group = (uint32_t)bytes[i] << 16 | second << 8 | third;
    putchar(digits[group >> 18]);
    putchar(digits[group >> 12 & 63]);
    putchar(i + 1 < size ? digits[group >> 6 & 63] : '=');
    putchar(i + 2 < size ? digits[group & 63] : '=');
  }
  putchar('"');
}

static void print_picture(const char *step, const uint8_t *pixels, int width, int height) {
  printf(", \"%s\": {\"width\": %d, \"height\": %d, \"channels\": 1, \"pixels\": ", step, width, height);
  print_base64(pixels, (size_t)width * (size_t)height);
  printf("}");
}

static const char *remark(int value) { return value < 0 ? "null" : value ? "true" : "false"; }

static void print_answer(const pe_answer *answer) {
  printf("{\"probabilities\": {");
  for (int i = 0; i < PE_CLASSES; i++) printf("%s%s: %.17g", i ? ", " : "", PE_NAMES[i], answer->probabilities[i]);
  printf("}, \"label\": %s, \"prediction_set\": ", PE_NAMES[answer->label]);
  if (answer->prediction_set < 0) {
    printf("null");
  } else {
    const char *before = "[";
    for (int i = 0; i < PE_CLASSES; i++) {
      if (answer->prediction_set >> i & 1) {
        printf("%s%s", before, PE_NAMES[i]);
        before = ", ";
      }
    }
    printf("%s]", *before == '[' ? "[" : "");
  }
  printf(", \"uncertain\": %s, \"distance\": ", remark(answer->uncertain));
  if (answer->out_of_distribution < 0) printf("null");
  else printf("%.17g", answer->distance);
  printf(", \"out_of_distribution\": %s}", remark(answer->out_of_distribution));
}

#ifdef PE_ENGINE
static void print_outputs(const pe_element *tensor) {
  float *values[PE_OUTPUTS];
  const float *components = NULL;
  for (int i = 0; i < PE_OUTPUTS; i++) values[i] = allocate((size_t)PE_OUTPUT_SIZES[i] * sizeof(float));
  pe_engine_run(tensor, values);
  printf(", \"outputs\": {");
  for (int i = 0; i < PE_OUTPUTS; i++) {
    printf("%s\"%s\": [", i ? ", " : "", PE_OUTPUT_NAMES[i]);
    for (int k = 0; k < PE_OUTPUT_SIZES[i]; k++) printf("%s%.9g", k ? ", " : "", values[i][k]);
    printf("]");
    if (!strcmp(PE_OUTPUT_NAMES[i], "components")) components = values[i];
  }
  pe_answer answer;
  pe_decide(values[0], components, &answer);
  printf("}, \"answer\": ");
  print_answer(&answer);
  for (int i = 0; i < PE_OUTPUTS; i++) free(values[i]);
}
#endif

static void classify(const char *kit, const pe_vector *vector) {
  static uint8_t resized[PE_WIDTH * PE_HEIGHT];
  static pe_element tensor[PE_TENSOR_SIZE];
  char path[MOST_PATH];
  int width, height, channels;
  snprintf(path, sizeof path, "%s/vectors/%s", kit, vector->decoded);
  uint8_t *pixels = read_netpbm(path, &width, &height, &channels);
  uint8_t *grey = allocate((size_t)width * (size_t)height);
  pe_grey(pixels, (size_t)width * (size_t)height, channels, grey);
  if (pe_resize(grey, width, height, resized)) die("there is no memory");
  pe_tensor(resized, tensor);
  printf("{\"file\": \"%s\"", vector->file);
  print_picture("grey", grey, width, height);
  print_picture("resized", resized, PE_WIDTH, PE_HEIGHT);
  printf(", \"tensor\": ");
  print_base64(tensor, sizeof tensor);
#ifdef PE_ENGINE
  print_outputs(tensor);
#endif
  printf("}");
  free(grey);
  free(pixels);
}

int main(int count, char **arguments) {
  if (count != 2) die("give the folder of the kit");
#ifdef PE_ENGINE
  char path[MOST_PATH];
  snprintf(path, sizeof path, "%s/%s", arguments[1], PE_MODEL);
  pe_engine_open(path);
#endif
  printf("{\"port\": \"C\", \"vectors\": [");
  for (size_t i = 0; i < sizeof PE_VECTORS / sizeof *PE_VECTORS; i++) {
    if (i) printf(",\n");
    classify(arguments[1], &PE_VECTORS[i]);
  }
  printf("], \"decisions\": [");
  for (size_t i = 0; i < sizeof PE_CASES / sizeof *PE_CASES; i++) {
    pe_answer answer;
    pe_decide(PE_CASES[i].scores, PE_CASES[i].components, &answer);
    if (i) printf(",\n");
    print_answer(&answer);
  }
  printf("]}\n");
  return 0;
}
