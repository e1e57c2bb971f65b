if (new URLSearchParams(location.search).has("failed")) {
  const field = document.getElementById("token");
  document.getElementById("failed").hidden = false;
  field.setAttribute("aria-invalid", "true");
  field.setAttribute("aria-describedby", "failed where");
}
