/** Takes in pictures that are chosen, pasted, or dropped anywhere on the page. */

/** Emits "file" with detail {file}. */
export class Intake extends EventTarget {
  #input;

  /** @param {HTMLInputElement} input for files */
  constructor(input) {
    super();
    this.#input = input;
    input.addEventListener("change", () => {
      this.#take(input.files[0]);
      input.value = ""; // so that the same file can be chosen again
    });
    addEventListener("paste", (event) => {
      this.#take([...event.clipboardData.files].find(({ type }) => type.startsWith("image/")));
    });
    addEventListener("dragover", (event) => {
      event.preventDefault(); // else the browser leaves the page to show the file
      document.body.classList.toggle("dropping", event.dataTransfer.types.includes("Files"));
    });
    addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("dropping"));
    addEventListener("drop", (event) => {
      event.preventDefault();
      document.body.classList.remove("dropping");
      this.#take(event.dataTransfer.files[0]);
    });
  }

  /** Let the user choose a file. */
  choose() {
    this.#input.click();
  }

  /** @param {File | undefined} file */
  #take(file) {
    if (file) this.dispatchEvent(new CustomEvent("file", { detail: { file } }));
  }
}
