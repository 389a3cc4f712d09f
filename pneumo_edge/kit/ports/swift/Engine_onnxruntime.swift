// Starter code for iOS, not compiled or run when the kit was made. ONNX Runtime's Objective-C API (onnxruntime-objc, or
// the Swift package onnxruntime-swift-package-manager).

import Foundation
import OnnxRuntimeBindings

final class OnnxEngine: Engine {
  private let environment: ORTEnv
  private let session: ORTSession
  private let shape: [NSNumber]

  /// `shape` is that of the tensor, `tensor.shape` of vectors.json.
  init(path: String, shape: [Int]) throws {
    environment = try ORTEnv(loggingLevel: .warning)
    session = try ORTSession(env: environment, modelPath: path, sessionOptions: nil)
    self.shape = shape.map { NSNumber(value: $0) }
  }

  func run(_ tensor: [Double]) throws -> [[Float]] {
    let data = tensor.map(Float.init).withUnsafeBytes { NSMutableData(bytes: $0.baseAddress, length: $0.count) }
    let image = try ORTValue(tensorData: data, elementType: .float, shape: shape)
    let names = try session.outputNames()
    let found = try session.run(
      withInputs: [try session.inputNames()[0]: image], outputNames: Set(names), runOptions: nil)
    return try names.map { name in
      let values = try found[name]!.tensorData() as Data
      return values.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
    }
  }
}
