/* Runs a .tflite file with the C API of LiteRT 2.3, whose release has the headers and libLiteRt:

     cc -O2 -DPE_ENGINE -Ilitert_sdk port.c pneumo_edge.c engine_litert.c -Llib -lLiteRt -lm -o port

   Before 2.3, LiteRtCreateModelFromFile took no environment. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "litert/c/litert_common.h"
#include "litert/c/litert_compiled_model.h"
#include "litert/c/litert_environment.h"
#include "litert/c/litert_model.h"
#include "litert/c/litert_options.h"
#include "litert/c/litert_tensor_buffer.h"

#include "engine.h"

static LiteRtCompiledModel compiled;
static LiteRtTensorBuffer image, outputs_of[PE_OUTPUTS];
/* The place of each output in the file's signature, its type, and how its integers are dequantized. */
static LiteRtParamIndex place_of[PE_OUTPUTS];
static LiteRtElementType type_of[PE_OUTPUTS];
static LiteRtQuantizationPerTensor quantization_of[PE_OUTPUTS];

static void check(LiteRtStatus status, const char *what) {
  if (status != kLiteRtStatusOk) {
    fprintf(stderr, "error: %s (LiteRT's status %d)\n", what, (int)status);
    exit(1);
  }
}

static LiteRtParamIndex place(LiteRtSignature signature, int output) {
  for (LiteRtParamIndex i = 0; i < PE_OUTPUTS; i++) {
    const char *name;
    check(LiteRtGetSignatureOutputName(signature, i, &name), "an output has no name");
    if (!strcmp(name, PE_OUTPUT_NAMES[output])) return i;
  }
  return (LiteRtParamIndex)output;
}

void pe_engine_open(const char *path) {
  LiteRtEnvironment environment;
  LiteRtModel model;
  LiteRtOptions options;
  LiteRtSignature signature;
  LiteRtTensor tensor;
  LiteRtRankedTensorType type;
  LiteRtTensorBufferRequirements needed;
  check(LiteRtCreateEnvironment(0, NULL, &environment), "there is no environment");
  check(LiteRtCreateModelFromFile(environment, path, &model), path);
  check(LiteRtCreateOptions(&options), "there are no options");
  check(LiteRtSetOptionsHardwareAccelerators(options, kLiteRtHwAcceleratorCpu), "there is no CPU");
  check(LiteRtCreateCompiledModel(environment, model, options, &compiled), "the model cannot be compiled");
  check(LiteRtGetModelSignature(model, 0, &signature), "the model has no signature");
  check(LiteRtGetSignatureInputTensorByIndex(signature, 0, &tensor), "the model has no input");
  check(LiteRtGetRankedTensorType(tensor, &type), "the input has no type");
  check(LiteRtGetCompiledModelInputBufferRequirements(compiled, 0, 0, &needed), "the input has no buffer");
  check(LiteRtCreateManagedTensorBufferFromRequirements(environment, &type, needed, &image), "there is no memory");
  for (int i = 0; i < PE_OUTPUTS; i++) {
    const LiteRtParamIndex at = place_of[i] = place(signature, i);
    check(LiteRtGetSignatureOutputTensorByIndex(signature, at, &tensor), "an output is missing");
    check(LiteRtGetRankedTensorType(tensor, &type), "an output has no type");
    type_of[i] = type.element_type;
    if (type.element_type != kLiteRtElementTypeFloat32) {
      check(LiteRtGetPerTensorQuantization(tensor, &quantization_of[i]), "an output has no scale");
    }
    check(LiteRtGetCompiledModelOutputBufferRequirements(compiled, 0, at, &needed), "an output has no buffer");
    check(LiteRtCreateManagedTensorBufferFromRequirements(environment, &type, needed, &outputs_of[at]), "no memory");
  }
}

void pe_engine_run(const pe_element *tensor, float **outputs) {
  void *memory;
  check(LiteRtLockTensorBuffer(image, &memory, kLiteRtTensorBufferLockModeWrite), "the input cannot be written");
  memcpy(memory, tensor, PE_TENSOR_SIZE * sizeof(pe_element));
  check(LiteRtUnlockTensorBuffer(image), "the input cannot be written");
  check(LiteRtRunCompiledModel(compiled, 0, 1, &image, PE_OUTPUTS, outputs_of), "the model cannot be run");
  for (int i = 0; i < PE_OUTPUTS; i++) {
    LiteRtTensorBuffer buffer = outputs_of[place_of[i]];
    const float scale = quantization_of[i].scale;
    const int zero_point = (int)quantization_of[i].zero_point;
    check(LiteRtLockTensorBuffer(buffer, &memory, kLiteRtTensorBufferLockModeRead), "an output cannot be read");
    for (int k = 0; k < PE_OUTPUT_SIZES[i]; k++) {
      switch (type_of[i]) {
        case kLiteRtElementTypeUInt8: outputs[i][k] = scale * (float)(((uint8_t *)memory)[k] - zero_point); break;
        case kLiteRtElementTypeInt8: outputs[i][k] = scale * (float)(((int8_t *)memory)[k] - zero_point); break;
        default: outputs[i][k] = ((float *)memory)[k];
      }
    }
    check(LiteRtUnlockTensorBuffer(buffer), "an output cannot be read");
  }
}
